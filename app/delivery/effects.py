"""Step 3: the effects of a batch in PostgreSQL, exactly one inbox row per event.

One transaction for the whole batch, and few round trips: whatever needs no answer is queued and
travels with the inbox claim and COMMIT. A batch that fails for a reason of its events is split
until the bad one stands alone; that one moves to a retry tier or to the dead letters, in a
transaction of its own whose stored output is that very move. `CallingEffects` puts calls to a
third party between two such transactions.

Most batches hold no repeated event, so the inbox is not looked up first: the claim fails when the
guess was wrong, everything is rolled back, and the batch is done again with a look-up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from app.db import inbox
from app.db.engine import StatementError
from app.db.inbox import Claim, Status
from app.delivery.deduplicate import is_finished
from app.delivery.events import (
    About,
    Applied,
    Call,
    CallingHandler,
    Event,
    FailureNotices,
    Handler,
    MoveObserver,
    Reply,
    RestoringHandler,
    Retry,
    Write,
)
from app.delivery.failures import ToTier, as_symphony_error, next_move
from app.delivery.flood import FloodGate
from app.delivery.patience import Patience
from app.delivery.precedence import Precedence
from app.delivery.spans import context_of, log_fields
from app.errors import DatabaseOutage, Indefinite, RowsMissed, SymphonyError, TransientDatabase
from app.failpoints import failpoint
from app.messages import deadletter, pack, unpack
from app.messages.envelope import Output
from app.observability import exemplars, metrics
from app.observability.logging import bound, get_log
from app.observability.tracing import within
from app.topics import dlt_of, retry_tier

if TYPE_CHECKING:
    from app.db.engine import Transaction
    from app.delivery.app import App

log = get_log(__name__)
Item = TypeVar("Item", Event, Reply)
T = TypeVar("T")


class Finished(NamedTuple):
    """An event that needs nothing more from PostgreSQL: publish, write, and it is done.

    `done` is False for an event that was retried or parked: it must not enter the idempotency
    table, because a later delivery is really tried.
    """

    partition: int
    key: bytes | None
    event_id: str
    outputs: Sequence[Output]
    writes: tuple[Write, ...] = ()
    done: bool = True
    about: About = About()


class Pending(NamedTuple):
    """INTENT is recorded; the third party must be called."""

    event: Event
    request: Any


class HandlerFailed(Exception):
    """A handler raised something unforeseen: that is its events' failure.

    The same exception from the core or the database facade is not, and ends the process: an event
    must not climb to the dead letters because of a defect around it.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(repr(error))
        self.error = error


async def _by_handler(work: Awaitable[T]) -> T:
    try:
        return await work
    except (SymphonyError, StatementError):
        raise
    except Exception as error:
        raise HandlerFailed(error) from error


class Effects:
    """Applies batches of one consumer through its handler."""

    def __init__(
        self, app: App, name: str, handler: Any, patience: Patience, flood: FloodGate
    ) -> None:
        self._app = app
        self._name = name
        self._handler = handler
        self._patience = patience
        self._flood = flood
        self._precedence = Precedence(handler)
        self._guess_fresh = False

    async def apply(self, events: Sequence[Event]) -> list[Finished]:
        """Apply `events`; one Finished for each. Raises Abandoned on a revocation."""
        if not events:
            return []
        await failpoint("delivery.before_transaction", events)
        finished = await self._split(events, self._transact, self._isolate)
        await failpoint("delivery.after_commit", events)
        return finished

    async def pass_barriers(self, barriers: Sequence[Event]) -> None:
        """Record that everything before `barriers` is finished; the handler never sees them."""
        await self._patience.run(lambda: self._record_barriers(barriers))

    async def _record_barriers(self, barriers: Sequence[Event]) -> None:
        async with self._app.db.transaction() as tx:
            _, fresh = await self._look_up(tx, barriers)
            if fresh:
                await inbox.claim(tx, self._name, [_claim(one, Status.DONE, ()) for one in fresh])

    async def _split(
        self,
        items: Sequence[Item],
        attempt: Callable[[Sequence[Item]], Awaitable[list[Any]]],
        isolate: Callable[[Item, SymphonyError], Awaitable[Any]],
    ) -> list[Any]:
        """Run `attempt` on all items, on halves when it fails, `isolate` on what fails alone."""
        try:
            return await self._patience.run(lambda: attempt(items))
        except (DatabaseOutage, TransientDatabase):
            raise
        except (SymphonyError, StatementError, HandlerFailed) as caught:
            if len(items) == 1:
                event = items[0].event if isinstance(items[0], Reply) else items[0]
                with bound(**log_fields(self._name, event)):
                    failure = self._failure(caught)
                    return [await self._patience.run(lambda: isolate(items[0], failure))]
            metrics.SPLITS.child(self._name).inc()
        middle = len(items) // 2
        first = await self._split(items[:middle], attempt, isolate)
        return first + await self._split(items[middle:], attempt, isolate)

    def _failure(self, caught: Exception) -> SymphonyError:
        """Log what an event failed by and give it the platform's name."""
        error = caught.error if isinstance(caught, HandlerFailed) else caught
        failure = as_symphony_error(error)
        log.error("event.failed", error=error, consumer=self._name, code=failure.code)
        return failure

    async def _guess(self, work: Callable[[bool], Awaitable[T]]) -> T:
        """Run `work(guessing)`, first as a guess when the last batch held no repeat.

        An error of the guess may come from a repeated event, so only that of an attempt which has
        looked is believed. The guess is made again once a look-up found nothing.
        """
        if self._guess_fresh:
            try:
                return await work(True)
            except DatabaseOutage:
                raise
            except (SymphonyError, StatementError, HandlerFailed):
                self._guess_fresh = False
        return await work(False)

    async def _transact(self, events: Sequence[Event]) -> list[Finished]:
        if self._precedence.unsure(events, ()):
            self._guess_fresh = False
        return await self._guess(lambda guessing: self._apply(events, guessing))

    async def _apply(self, events: Sequence[Event], guessing: bool) -> list[Finished]:
        handler: Handler = self._handler
        async with self._app.db.transaction(guessing=guessing) as tx:
            known, fresh = await self._split_known(tx, events)
            unsure = self._precedence.unsure(events, known)
            applied: Sequence[Applied] = ()
            if fresh:
                applied = await _by_handler(handler.apply(tx, fresh, self._app.clock.now()))
                await failpoint("delivery.in_transaction", fresh)
            finished = await self._restore(tx, events, known)
            before = await _by_handler(self._precedence.look_up(tx, unsure))
            if fresh:
                both = list(zip(fresh, applied, strict=True))
                await self._claim(tx, [_claim(one, Status.DONE, a.outputs) for one, a in both])
                finished = finished | {one.event_id: _finished(one, a) for one, a in both}
        self._precedence.settle(unsure)
        return [
            one._replace(outputs=(*before.get(one.event_id, ()), *one.outputs))
            for one in (finished[event.event_id] for event in events)
        ]

    async def _split_known(
        self, tx: Transaction, events: Sequence[Event]
    ) -> tuple[dict[str, Finished], Sequence[Event]]:
        if tx.guessing:
            return {}, events
        known, fresh = await self._look_up(tx, events)
        self._guess_fresh = not known
        return known, fresh

    async def _restore(
        self, tx: Transaction, events: Sequence[Event], known: dict[str, Finished]
    ) -> dict[str, Finished]:
        """Give events that were finished before the table entries they may still lack.

        After the handler has applied the others: a batch may hold both of one order, and what was
        loaded before would be written over what came of it.
        """
        again = [event for event in events if event.event_id in known]
        if not again or not isinstance(self._handler, RestoringHandler):
            return known
        writes = await _by_handler(self._handler.restore(tx, again))
        return {
            event.event_id: known[event.event_id]._replace(writes=one)
            for event, one in zip(again, writes, strict=True)
        }

    async def _look_up(
        self, tx: Transaction, events: Sequence[Event]
    ) -> tuple[dict[str, Finished], list[Event]]:
        """Split events into those this consumer finished before and those it must apply."""
        rows = await inbox.lookup(tx, self._name, [event.event_id for event in events])
        known: dict[str, Finished] = {}
        fresh: list[Event] = []
        for event in events:
            row = rows.get(event.event_id)
            if row is not None and is_finished(row, event.delivery):
                known[event.event_id] = Finished(
                    event.partition,
                    event.key,
                    event.event_id,
                    unpack(row.outputs),
                    done=row.status is Status.DONE,
                )
            else:
                fresh.append(event)
        if known:
            repeated = metrics.DUPLICATES.child(self._name, "inbox")
            tx.after_commit(lambda: repeated.inc(len(known)))
        return known, fresh

    async def _claim(self, tx: Transaction, claims: Sequence[Claim]) -> None:
        """Claim the inbox rows and commit; RowsMissed when an event was finished before."""
        await failpoint("delivery.before_commit")
        await inbox.claim(tx, self._name, claims)

    async def _isolate(self, event: Event, error: SymphonyError) -> Finished:
        """Move one failed event on, in a transaction of its own."""
        async with self._app.db.transaction() as tx:
            known, fresh = await self._look_up(tx, [event])
            if not fresh:
                return known[event.event_id]
            status, outputs = self._move_on(tx, event, error)
            await failpoint("delivery.before_move", (event,))
            await self._claim(tx, [_claim(event, status, outputs)])
        return Finished(event.partition, event.key, event.event_id, outputs, done=False)

    def _move_on(
        self, tx: Transaction, event: Event, error: SymphonyError
    ) -> tuple[Status, tuple[Output, ...]]:
        """Build the records that move a failed event to a tier or to its dead letters.

        Counted when `tx` has happened. Raises Flooded when it would be one dead letter too many.
        """
        settings, now = self._app.settings, self._app.clock.now()
        move = next_move(
            error,
            event.attempt,
            tiers_s=settings.retry_tiers,
            attempts_max=settings.retry_attempts_max,
        )
        notices = self._handler if isinstance(self._handler, FailureNotices) else None
        if isinstance(move, ToTier):
            due_at = now + timedelta(seconds=move.delay_s)
            record = deadletter.retry(
                event.record,
                tier=retry_tier(move.delay_s).name,
                role=self._name,
                error=error,
                attempt=event.attempt + 1,
                due_at=due_at,
                now=now,
            )
            tx.after_commit(lambda: self._count_retry(event, error, move.delay_s, due_at))
            extra = notices.retrying(event, error, due_at, now) if notices else ()
            return Status.RETRYING, (record, *extra)
        self._flood.admit((event.topic, event.partition, event.offset))
        tx.after_commit(lambda: self._count_dead_letter(event, error))
        letter = deadletter.dead_letter(
            event.record,
            topic=dlt_of(event.topic),
            role=self._name,
            error=error,
            attempt=event.attempt + 1,
            now=now,
        )
        extra = notices.parked(event, error, now) if notices else ()
        return Status.PARKED, (letter, *extra)

    def _count_retry(
        self, event: Event, error: SymphonyError, delay_s: int, due_at: datetime
    ) -> None:
        log.info(
            "event.retried",
            **log_fields(self._name, event),
            consumer=self._name,
            code=error.code,
            reason=error.detail,
            failures=event.attempt + 1,
            tier=f"{delay_s}s",
            due_at=due_at.isoformat(),
        )
        metrics.RETRIED.child(self._name, f"{delay_s}s").inc()
        if isinstance(self._handler, MoveObserver):
            self._handler.moved(event, parked=False)

    def _count_dead_letter(self, event: Event, error: SymphonyError) -> None:
        log.warning(
            "event.dead_lettered",
            **log_fields(self._name, event),
            consumer=self._name,
            code=error.code,
            reason=error.detail,
            failures=event.attempt + 1,
        )
        metrics.DEAD_LETTERED.child(self._name, error.code).inc(
            exemplar=exemplars.of(event.traceparent)
        )
        if isinstance(self._handler, MoveObserver):
            self._handler.moved(event, parked=True)


class CallingEffects(Effects):
    """Effects with calls to a third party: apply - call - apply."""

    async def apply(self, events: Sequence[Event]) -> list[Finished]:
        """As Effects.apply; calls run concurrently, at most `gateway_concurrency_max` at once."""
        if not events:
            return []
        await failpoint("delivery.before_transaction", events)
        begun = await self._split(events, self._begin, self._isolate)
        pending = [one for one in begun if isinstance(one, Pending)]
        finished = [one for one in begun if isinstance(one, Finished)]
        if pending:
            await failpoint("delivery.after_intent")
            replies = await self._call_all(pending)
            await failpoint("delivery.after_call")
            finished += await self._split(replies, self._complete, self._isolate_reply)
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
                results = await _by_handler(handler.begin(tx, fresh, self._app.clock.now()))
                await failpoint("delivery.in_transaction", fresh)
                claims = []
                for event, one in zip(fresh, results, strict=True):
                    if isinstance(one, Call):
                        claims.append(_claim(event, Status.INTENT, ()))
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
            return _claim(event, Status.DONE, one.outputs), _finished(event, one)
        status, outputs = self._move_on(tx, event, one.error)
        return _claim(event, status, outputs), Finished(
            event.partition, event.key, event.event_id, outputs, done=False
        )

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
                        result = await _by_handler(self._handler.call(item.request))
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
                results = await _by_handler(handler.complete(tx, ours, self._app.clock.now()))
                await failpoint("delivery.in_transaction", [reply.event for reply in ours])
                claims = []
                for reply, one in zip(ours, results, strict=True):
                    claim, finished[reply.event.event_id] = self._settle(tx, reply.event, one)
                    claims.append(claim)
                await failpoint("delivery.before_commit")
                await inbox.complete(tx, self._name, claims)
        return [finished[reply.event.event_id] for reply in replies]

    async def _isolate_reply(self, reply: Reply, error: SymphonyError) -> Finished:
        """One reply that could not be recorded: repeat the winner's outcome, else move on."""
        event = reply.event
        async with self._app.db.transaction() as tx:
            known, fresh = await self._look_up(tx, [event])
            if not fresh:
                return known[event.event_id]
            status, outputs = self._move_on(tx, event, error)
            await failpoint("delivery.before_move", (event,))
            await inbox.complete(tx, self._name, [_claim(event, status, outputs)])
        return Finished(event.partition, event.key, event.event_id, outputs, done=False)


def _claim(event: Event, status: Status, outputs: Sequence[Output]) -> Claim:
    return Claim(
        event.event_id,
        status,
        event.delivery,
        pack(outputs),
        event.topic,
        event.partition,
        event.offset,
    )


def _finished(event: Event, one: Applied) -> Finished:
    return Finished(
        event.partition, event.key, event.event_id, one.outputs, one.writes, about=one.about
    )
