"""All proxies of one process, and the operations that the API offers on them.

Mutating operations run one after the other, leases included.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from http import HTTPStatus

import msgspec

from chaos.proxy.bodies import ProxyBody, ProxyChange, ToxicBody, ToxicChange
from chaos.proxy.errors import ApiError, proxy_already_exists, proxy_not_found, too_many
from chaos.proxy.log import say
from chaos.proxy.memory import Memory
from chaos.proxy.proxy import Fields, Proxy

PROXIES_MAX = 200
UNDO_AGAIN_S = 0.25
UNDO_TRIES_MAX = 240

Document = dict[str, object]


class Collection:
    """Use it in a running event loop; `close` at the end."""

    def __init__(self, seed: int) -> None:
        self._seed = str(seed)
        self._proxies: dict[str, Proxy] = {}
        self._memory = Memory()
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def documents(self) -> dict[str, Document]:
        """All proxies by name."""
        return {name: proxy.document() for name, proxy in self._proxies.items()}

    def get(self, name: str) -> Proxy:
        """A proxy by name. Raises ApiError."""
        if name not in self._proxies:
            raise proxy_not_found()
        return self._proxies[name]

    async def create(self, body: ProxyBody) -> Document:
        """A new proxy. Raises ApiError: bad input, name taken, port taken."""
        body.check()
        async with self._lock:
            if body.name in self._proxies:
                raise proxy_already_exists()
            return (await self._add(body)).document()

    async def populate(self, bodies: list[ProxyBody]) -> tuple[list[Document], ApiError | None]:
        """Create or replace proxies; one that is as wanted is not touched.

        Stops at the first that cannot be made: what was done, and the error. Raises ApiError when
        the list makes no sense; then nothing was done.
        """
        for number, body in enumerate(bodies, 1):
            body.check(f" at proxy {number}")
        done: list[Document] = []
        async with self._lock:
            for body in bodies:
                try:
                    done.append((await self._add_or_replace(body)).document())
                except ApiError as error:
                    return done, error
        return done, None

    async def update(self, name: str, change: ProxyChange) -> Document:
        """Change a proxy's fields. Raises ApiError."""
        async with self._lock:
            proxy = self.get(name)
            await proxy.update(change)
            return proxy.document()

    async def delete(self, name: str) -> None:
        """End a proxy. Raises ApiError."""
        async with self._lock:
            self.get(name).close()
            del self._proxies[name]

    async def reset(self) -> None:
        """End all leases and toxics, enable all proxies. Raises the first ApiError, tries all."""
        problems: list[ApiError] = []
        async with self._lock:
            for proxy in self._proxies.values():
                proxy.toxics.clear()
                try:
                    await proxy.end_lease()
                    await proxy.set(msgspec.structs.replace(proxy.fields, enabled=True))
                except ApiError as error:
                    problems.append(error)
        say("reset")
        if problems:
            raise problems[0]

    async def add_toxic(self, name: str, body: ToxicBody) -> Document:
        """A new toxic of a proxy. Raises ApiError."""
        async with self._lock:
            return self.get(name).toxics.add(body).document()

    async def update_toxic(self, name: str, toxic: str, change: ToxicChange) -> Document:
        """Change a toxic. Raises ApiError."""
        async with self._lock:
            return self.get(name).toxics.update(toxic, change).document()

    async def remove_toxic(self, name: str, toxic: str) -> None:
        """End a toxic. Raises ApiError."""
        async with self._lock:
            self.get(name).toxics.remove(toxic)

    async def close(self) -> None:
        """End everything."""
        for proxy in self._proxies.values():
            proxy.close()
        self._proxies.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _add(self, body: ProxyBody) -> Proxy:
        if len(self._proxies) >= PROXIES_MAX:
            raise too_many("proxies", PROXIES_MAX)
        proxy = Proxy(
            body.name,
            Fields(body.listen, body.upstream, enabled=False),
            seed=self._seed,
            memory=self._memory,
            spawn=self._spawn,
            undo=lambda one: self._spawn(self._end_lease(one)),
        )
        await proxy.set(_fields_of(body))
        self._proxies[body.name] = proxy
        say("proxy added", proxy=body.name, **msgspec.to_builtins(proxy.fields))
        return proxy

    async def _add_or_replace(self, body: ProxyBody) -> Proxy:
        existing = self._proxies.get(body.name)
        if existing is None:
            return await self._add(body)
        if not existing.listens_at(body.listen) or existing.fields.upstream != body.upstream:
            await existing.replace(_fields_of(body))
        return existing

    async def _end_lease(self, proxy: Proxy) -> None:
        """Undo a leased change; while somebody else has the port, again and again."""
        for _ in range(UNDO_TRIES_MAX):
            async with self._lock:
                if self._proxies.get(proxy.name) is not proxy:
                    return
                try:
                    await proxy.end_lease()
                except ApiError as error:
                    say("lease cannot end yet", proxy=proxy.name, error=error.text)
                else:
                    return
            await asyncio.sleep(UNDO_AGAIN_S)
        say("lease given up", proxy=proxy.name)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            say("failed", status=int(HTTPStatus.INTERNAL_SERVER_ERROR), error=repr(error))


def _fields_of(body: ProxyBody) -> Fields:
    return Fields(body.listen, body.upstream, enabled=body.enabled is not False)
