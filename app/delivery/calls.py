"""Step 3 for handlers that call a third party: apply - call - apply.

INTENT is committed, the calls are made outside any transaction, their outcomes are committed where
INTENT still stands. A process that dies between the two leaves INTENT: the repeat calls again,
under the same idempotency key. Everything else is as in `app.delivery.effects`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from app.db import inbox
from app.db.engine import StatementError
from app.db.inbox import Claim, Status
from app.delivery.effects import Effects, Finished, HandlerFailed, by_handler, claim_of, finished_by
from app.delivery.events import Applied, Call, CallingHandler, Event, Reply, Retry
from app.delivery.spans import context_of, log_fields
from app.errors import Indefinite, RowsMissed, SymphonyError
from app.failpoints import failpoint
from app.observability.logging import bound
from app.observability.tracing import within

if TYPE_CHECKING:
    from app.db.engine import Transaction


class Pending(NamedTuple):
    """INTENT is recorded; the third party must be called."""

    event: Event
    request: Any


class CallingEffects(Effects):
    """Effects with calls to a third party: apply - call - apply."""

    async def apply(self, events: Sequence[Event]) -> list[Finished]:
        """As Effects.apply; calls run concurrently, at most `gateway_concurrency_max` at once."""
        if not events:
            return []
        await failpoint("delivery.before_transaction", events)
        begun = await self._split(events, self._begin, self._claim)
        pending = [one for one in begun if isinstance(one, Pending)]
        finished = [one for one in begun if isinstance(one, Finished)]
        if pending:
            await failpoint("delivery.after_intent")
            replies = await self._call_all(pending)
            await failpoint("delivery.after_call")
            finished += await self._split(replies, self._complete, self._record)
        await failpoint("delivery.after_commit", events)
        return finished

    async def _begin(self, events: Sequence[Event]) -> list[Finished | Pending]:
        return await self._guess(lambda guessing: self._apply_first(events, guessing))

    async def _apply_first(
        self, events: Sequence[Event], guessing: bool
    ) -> list[Finished | Pending]:
        handler: CallingHandler = self._handler
        async with self._app.db.transaction(guessing=guessing) as tx:
            known, fresh = await self._split_known(tx, events)
            begun: dict[str, Finished | Pending] = dict(known)
            if fresh:
                results = await by_handler(handler.begin(tx, fresh, self._app.clock.now()))
                await failpoint("delivery.in_transaction", fresh)
                claims = []
                for event, one in zip(fresh, results, strict=True):
                    if isinstance(one, Call):
                        claims.append(claim_of(event, Status.INTENT, ()))
                        begun[event.event_id] = Pending(event, one.request)
                    else:
                        claim, begun[event.event_id] = self._settle(tx, event, one)
                        claims.append(claim)
                await self._claim(tx, claims)
        return [begun[event.event_id] for event in events]

    def _settle(
        self, tx: Transaction, event: Event, one: Applied | Retry
    ) -> tuple[Claim, Finished]:
        if isinstance(one, Applied):
            return claim_of(event, Status.DONE, one.outputs), finished_by(event, one)
        return self._move_on(tx, event, one.error)

    async def _call_all(self, pending: Sequence[Pending]) -> list[Reply]:
        """Call for each; what is not answered within the total deadline is Indefinite, and so is
        what raised something unforeseen: the other side may have done it."""
        settings = self._app.settings
        gate = asyncio.Semaphore(settings.gateway_concurrency_max)

        async def one(item: Pending) -> Reply:
            event = item.event
            with bound(**log_fields(self._name, event)), within(context_of(self._name, event)):
                try:
                    async with gate, asyncio.timeout_at(deadline):
                        result = await by_handler(self._handler.call(item.request))
                except SymphonyError as error:
                    result = error
                except TimeoutError:
                    result = Indefinite("the step's deadline for calls passed")
                except (StatementError, HandlerFailed) as caught:
                    result = self._failure(caught)
            return Reply(item.event, item.request, result)

        deadline = asyncio.get_running_loop().time() + settings.gateway_deadline_s
        return list(await asyncio.gather(*(one(item) for item in pending)))

    async def _complete(self, replies: Sequence[Reply]) -> list[Finished]:
        """Record the outcomes; where another worker was faster, repeat what it stored."""
        try:
            return await self._apply_second(replies, guessing=True)
        except RowsMissed:
            return await self._apply_second(replies, guessing=False)

    async def _apply_second(self, replies: Sequence[Reply], *, guessing: bool) -> list[Finished]:
        handler: CallingHandler = self._handler
        async with self._app.db.transaction(guessing=guessing) as tx:
            known, _ = await self._split_known(tx, [reply.event for reply in replies])
            finished = dict(known)
            ours = [reply for reply in replies if reply.event.event_id not in known]
            if ours:
                results = await by_handler(handler.complete(tx, ours, self._app.clock.now()))
                await failpoint("delivery.in_transaction", [reply.event for reply in ours])
                claims = []
                for reply, one in zip(ours, results, strict=True):
                    claim, finished[reply.event.event_id] = self._settle(tx, reply.event, one)
                    claims.append(claim)
                await failpoint("delivery.before_commit")
                await self._record(tx, claims)
        return [finished[reply.event.event_id] for reply in replies]

    async def _record(self, tx: Transaction, claims: Sequence[Claim]) -> None:
        """Settle INTENT rows and commit; RowsMissed when another worker was faster."""
        await inbox.complete(tx, self._name, claims)
