"""The supervisor of one lab: its own process, one event loop, all parts as its children.

Guarantees: parts start in readiness order (broker and database; schema, topics and gateway;
workers); a dead worker is evicted from its consumer group at once; nothing outlives the supervisor
in whatever way it ends; a second supervisor in the same directory is refused. It injects no faults:
it offers calls (`chaos.lab.calls`) to those who do.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TextIO

import aiohttp
from aiokafka.errors import KafkaError

from chaos.lab.addresses import Addresses, proxied, upstreams
from chaos.lab.calls import Calls
from chaos.lab.control import serve
from chaos.lab.eviction import Sparse, evict
from chaos.lab.keeper import Keeper, State
from chaos.lab.parts import (
    BrokerPart,
    GatewayPart,
    Part,
    PostgresPart,
    WorkerPart,
)
from chaos.lab.plan import Plan
from chaos.lab.process import HOST, LabError, free_port, spawn, sweep, tail
from chaos.lab.proxy import ProxyPart
from chaos.observe.embedded import AlertmanagerPart, PrometheusPart, Targets

EVICTION_S = 8.0
EVICTION_AGAIN_S = 0.5
EVICTION_GIVE_UP_S = 120.0
EVICTION_LOG_S = 5.0
DISK_LOOK_S = 5.0
DISK_RESUME_SHARE = 0.9
TARGETS_LOOK_S = 0.5
SERVER_GRACE_S = 20.0
COMMAND_S = 150.0


class Supervisor:
    """All parts of one lab. `run` is its life; `Calls` drives it from outside."""

    def __init__(self, plan: Plan, http: aiohttp.ClientSession) -> None:
        self.plan, self.files, self._http = plan, plan.files, http
        self.state = State.STARTING
        self.problems: dict[str, str] = {}
        self.used_mb = 0.0
        self.keepers: dict[str, Keeper] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        plan.check_proxy()
        self.proxy = ProxyPart(plan, http) if plan.proxy else None
        proxy_port = self.proxy.port_of("kafka") if self.proxy else None
        self.broker = BrokerPart(plan, proxy_port) if plan.broker_kind == "embedded" else None
        self.postgres = PostgresPart(plan) if plan.postgres_kind == "embedded" else None
        self.gateway = GatewayPart(plan, http)
        self.alertmanager: AlertmanagerPart | None = None
        self.prometheus: PrometheusPart | None = None
        if plan.observe is not None:
            self.alertmanager = AlertmanagerPart(plan, plan.observe, http)
            self.prometheus = PrometheusPart(plan, plan.observe, self.alertmanager.url, http)
        self.spared: set[str] = set()
        web_port = plan.web_port or free_port()
        self.addresses = Addresses(
            bootstrap=self.broker.server.bootstrap if self.broker else plan.bootstrap,
            dsn=self.postgres.server.dsn if self.postgres else plan.dsn,
            gateway_url=self.gateway.url,
            web_url=f"http://{HOST}:{web_port}",
        )
        self.worker_addresses = self._put_proxy_before(self.addresses)
        servers: tuple[Part | None, ...] = (self.broker, self.postgres, self.gateway, self.proxy)
        for part in (*servers, *self.observers):
            if part is not None:
                self._keep(part)
        for role, count in plan.workers.items():
            for number in range(1, count + 1):
                self.add_worker(role, number)

    @property
    def worker_keepers(self) -> list[Keeper]:
        """Keepers of workers, in order of creation."""
        return [keeper for keeper in self.keepers.values() if isinstance(keeper.part, WorkerPart)]

    @property
    def observers(self) -> list[Part]:
        """What only looks on; Alertmanager first, because Prometheus tells it."""
        return [part for part in (self.alertmanager, self.prometheus) if part is not None]

    def add_worker(self, role: str, number: int) -> Keeper:
        """A keeper for one more worker; it does not start it."""
        return self._keep(WorkerPart(self.plan, role, number, self.worker_addresses, self._http))

    def _put_proxy_before(self, direct: Addresses) -> Addresses:
        """What workers are told; the laboratory's own tools go the direct way."""
        if self.proxy is None or self.broker is None:
            return direct
        self.proxy.upstreams = upstreams(direct, self.broker.server.proxied_bootstrap)
        return proxied(direct, self.proxy.listen)

    def request_stop(self) -> None:
        """Ask the lab to end in good order; `run` returns when it has."""
        self._stop.set()

    async def run(self) -> None:
        """Bring everything up, keep it until a stop is requested, and take it down.

        Raises LabError when the lab could not be brought up; then it was taken down again.
        """
        starting = asyncio.create_task(self._bring_up())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                self.state = State.READY
                self.spawn_task(self._watch_disk())
                await self._stop.wait()
        finally:
            self.state = State.STOPPING
            starting.cancel()
            stopping.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)
            await self._take_down()

    def spawn_task(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine beside everything else; a failure of it is a problem in the status."""
        task = asyncio.create_task(work, name=getattr(work, "__qualname__", None))
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log(f"{task.get_name()} failed: {error!r}")
            self.problems[task.get_name()] = repr(error)

    def _keep(self, part: Part) -> Keeper:
        keeper = Keeper(
            part,
            run_dir=self.files.run,
            backoff_max_s=self.plan.restart_backoff_max_s,
            on_end=self._on_end,
        )
        self.keepers[part.name] = keeper
        self.spawn_task(keeper.run())
        return keeper

    def _on_end(self, part: Part, returncode: int) -> None:
        log(f"{part.name} ended: {returncode}")
        if isinstance(part, WorkerPart) and part.group is not None:
            self.spawn_task(self._evict(part.name, part.group, part.client_id))

    async def _evict(self, name: str, group: str, client_id: str) -> None:
        """Evict a dead member; while the broker is away, try again: sessions outlive brokers."""
        started = time.monotonic()
        complain = Sparse(log, EVICTION_LOG_S)
        while True:
            try:
                async with asyncio.timeout(EVICTION_S):
                    count = await evict(self.addresses.bootstrap, group, client_id)
                break
            except (KafkaError, TimeoutError, OSError) as error:
                if time.monotonic() - started > EVICTION_GIVE_UP_S:
                    log(f"{name} was not evicted, its session has to time out: {error!r}")
                    return
                complain(f"{name} cannot be evicted from {group} yet: {error!r}")
                await asyncio.sleep(EVICTION_AGAIN_S)
        log(f"{name}: {count} members of {group} evicted in {time.monotonic() - started:.2f} s")

    async def _bring_up(self) -> None:
        started = time.monotonic()
        try:
            async with asyncio.timeout(self.plan.ready_timeout_s):
                await _all(
                    self._prepare_broker(),
                    self._prepare_postgres(),
                    self._start(self.gateway),
                    *([self._start(self.proxy)] if self.proxy else []),
                )
                log(f"servers ready after {time.monotonic() - started:.1f} s")
                for keeper in self.worker_keepers:
                    keeper.start()
                await _all(*(keeper.wait_ready() for keeper in self.worker_keepers))
                self.spawn_task(self._watch_targets())
                for part in self.observers:
                    await self._start(part)
        except TimeoutError:
            raise LabError(self._not_ready()) from None
        log(f"all ready after {time.monotonic() - started:.1f} s")

    def _not_ready(self) -> str:
        late = [keeper for keeper in self.keepers.values() if keeper.state is not State.READY]
        names = ", ".join(
            f"{keeper.name} ({keeper.state}{': ' + keeper.reason if keeper.reason else ''})"
            for keeper in late
        )
        text = f"not ready within {self.plan.ready_timeout_s:g} s: {names or 'a preparing step'}"
        if late:
            text += f"\nthe end of {late[0].part.log}:\n{tail(late[0].part.log)}"
        return text

    async def _prepare_broker(self) -> None:
        if self.broker is not None:
            await self._start(self.broker)
        await self._command("topics", "topics", "apply")

    async def _prepare_postgres(self) -> None:
        if self.postgres is not None:
            await self._start(self.postgres)
            await asyncio.to_thread(self.postgres.server.create_database)
        await self._command("migrate", "db", "migrate", "--seed")

    async def _start(self, part: Part) -> None:
        keeper = self.keepers[part.name]
        keeper.start()
        await keeper.wait_ready()

    async def _command(self, name: str, *arguments: str) -> None:
        """Run one `symphony` command of the preparation; raises LabError with its last line."""
        file = self.files.log_of(name)
        environment = {
            **os.environ,
            **self.plan.environment,
            "SYMPHONY_LAB": "true",
            "SYMPHONY_NAMESPACE": self.plan.namespace,
            "SYMPHONY_TOPIC_PARTITIONS": str(self.plan.topic_partitions),
            "SYMPHONY_BROKER_BOOTSTRAP": self.addresses.bootstrap,
            "SYMPHONY_POSTGRES_DSN": self.addresses.dsn,
        }
        process = await asyncio.to_thread(
            spawn,
            [sys.executable, "-P", "-m", "app.cli", *arguments],
            log=file,
            env=environment,
            cwd=self.plan.cwd,
        )
        deadline = time.monotonic() + COMMAND_S
        said = f"`symphony {' '.join(arguments)}`"
        while process.poll() is None:
            if time.monotonic() > deadline:
                process.kill()
                raise LabError(f"{said} did not end within {COMMAND_S:.0f} s:\n{tail(file, 5)}")
            await asyncio.sleep(0.05)
        if process.returncode:
            raise LabError(f"{said} failed:\n{tail(file, 5)}")

    async def _take_down(self) -> None:
        grace_s = self.plan.stop_grace_s
        observers = [self.keepers[part.name] for part in self.observers]
        await _all(*(keeper.stop(grace_s) for keeper in (*observers, *self.worker_keepers)))
        between = [part for part in (self.proxy, self.gateway) if part is not None]
        await _all(*(self.keepers[part.name].stop(grace_s) for part in between))
        servers = [part for part in (self.broker, self.postgres) if part is not None]
        await _all(*(self.keepers[part.name].stop(SERVER_GRACE_S) for part in servers))
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch_disk(self) -> None:
        """Stop accepting orders while the lab's files exceed the cap."""
        closed: list[Keeper] = []
        while True:
            self.used_mb = await asyncio.to_thread(self.files.used_mb)
            cap = self.plan.disk_max_mb
            if self.used_mb > cap and not closed:
                closed = [k for k in self.worker_keepers if k.part.role == "web" and k.wanted]
                self.problems["disk"] = (
                    f"the lab's files take {self.used_mb:.0f} MB, more than lab_disk_max_mb ="
                    f" {cap}: no orders are accepted; `symphony down --purge` removes the files"
                )
                log(self.problems["disk"])
                await _all(*(keeper.stop(self.plan.stop_grace_s) for keeper in closed))
            elif self.used_mb < cap * DISK_RESUME_SHARE and "disk" in self.problems:
                del self.problems["disk"]
                for keeper in closed:
                    keeper.start()
                closed = []
            await asyncio.sleep(DISK_LOOK_S)

    async def _watch_targets(self) -> None:
        """Have every worker scraped that the lab is meant to have, dead ones included, from when
        it was ready for the first time: by the lab's Prometheus, or by one beside it.
        """
        targets, seen = Targets(self.files.targets), set[str]()
        while True:
            seen |= {k.name for k in self.worker_keepers if k.state is State.READY}
            seen -= self.spared
            meant = [k.part for k in self.worker_keepers if k.name in seen]
            workers = [part for part in meant if isinstance(part, WorkerPart)]
            await asyncio.to_thread(targets.write, workers)
            await asyncio.sleep(TARGETS_LOOK_S)


async def _all(*work: Coroutine[Any, Any, None]) -> None:
    """Run coroutines together; the first failure cancels the others."""
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine in work:
                group.create_task(coroutine)
    except* LabError as errors:
        raise _first(errors) from None


def _first(errors: BaseExceptionGroup[LabError]) -> LabError:
    found = errors.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


def log(text: str) -> None:
    """One line in the supervisor's log (its standard error)."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    sys.stderr.write(f"{stamp}Z {text}\n")
    sys.stderr.flush()


@contextlib.contextmanager
def only_one(file: Path) -> Iterator[TextIO]:
    """Hold the lab's lock. Raises LabError when another supervisor holds it."""
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(
                f"a lab already runs in {file.parent}: see `symphony status`, end it with"
                " `symphony down`, or use another --lab-dir"
            ) from None
        yield lock


@asynccontextmanager
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """One HTTP client for all probes."""
    async with aiohttp.ClientSession(trust_env=False) as http:
        yield http


async def supervise(plan: Plan) -> None:
    """The whole life of one lab; see Supervisor.run."""
    files = plan.files
    with only_one(files.lock):
        files.failure.unlink(missing_ok=True)
        left = sweep(files.run)
        if left:
            log(f"ended processes of an earlier lab: {', '.join(left)}")
        files.check_disk(plan.disk_max_mb)
        async with session() as http:
            supervisor = Supervisor(plan, http)
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, supervisor.request_stop)
            async with serve(files, Calls(supervisor)):
                await supervisor.run()


def main(argv: list[str]) -> int:
    """`python -m chaos.lab.supervisor LAB_DIR`: exit code 1 leaves the reason in failure.txt."""
    plan = Plan.load(Path(argv[0]))
    # What aiokafka logs at every try it also raises, and `_evict` tells of that.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        asyncio.run(supervise(plan))
    except LabError as error:
        log(str(error))
        plan.files.failure.write_text(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
