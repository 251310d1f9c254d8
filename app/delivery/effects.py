"""Step 3: the effects of a batch in PostgreSQL, exactly one inbox row per event.

One transaction for the whole batch, and few round trips: whatever needs no answer is queued and
travels with the inbox claim and COMMIT. A batch that fails for a reason of its events is split
until the bad one stands alone; that one moves to a retry tier or to the dead letters, in a
transaction of its own whose stored output is that very move (`app.delivery.moves`).

Most batches hold no repeated event, so the inbox is not looked up first: the claim fails when the
guess was wrong, everything is rolled back, and the batch is done again with a look-up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from app.db import inbox
from app.db.engine import StatementError
from app.db.inbox import Claim, Status
from app.delivery.deduplicate import is_finished
from app.delivery.events import About, Applied, Event, Handler, Reply, RestoringHandler, Write
from app.delivery.failures import as_symphony_error
from app.delivery.flood import FloodGate
from app.delivery.moves import Moves
from app.delivery.patience import Patience
from app.delivery.precedence import Precedence
from app.delivery.spans import log_fields
from app.errors import DatabaseOutage, SymphonyError, TransientDatabase
from app.failpoints import failpoint
from app.messages import pack, unpack
from app.messages.envelope import Output
from app.observability import metrics
from app.observability.logging import bound, get_log

if TYPE_CHECKING:
    from app.db.engine import Transaction
    from app.delivery.app import App

log = get_log(__name__)
Item = TypeVar("Item", Event, Reply)
T = TypeVar("T")
Store = Callable[["Transaction", Sequence[Claim]], Awaitable[None]]
"""Writes inbox rows and commits; RowsMissed when one of them is another worker's by now."""


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


class HandlerFailed(Exception):
    """A handler raised something unforeseen: that is its events' failure.

    The same exception from the core or the database facade is not, and ends the process: an event
    must not climb to the dead letters because of a defect around it.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(repr(error))
        self.error = error


async def by_handler(work: Awaitable[T]) -> T:
    """Await a handler's work; what it raises without a name of ours becomes HandlerFailed."""
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
        self._moves = Moves(app, name, handler, flood)
        self._precedence = Precedence(handler)
        self._guess_fresh = False

    async def apply(self, events: Sequence[Event]) -> list[Finished]:
        """Apply `events`; one Finished for each. Raises Abandoned on a revocation."""
        if not events:
            return []
        await failpoint("delivery.before_transaction", events)
        finished = await self._split(events, self._transact, self._claim)
        await failpoint("delivery.after_commit", events)
        return finished

    async def pass_barriers(self, barriers: Sequence[Event]) -> None:
        """Record that everything before `barriers` is finished; the handler never sees them."""
        await self._patience.run(lambda: self._record_barriers(barriers))

    async def _record_barriers(self, barriers: Sequence[Event]) -> None:
        async with self._app.db.transaction() as tx:
            _, fresh = await self._look_up(tx, barriers)
            if fresh:
                await inbox.claim(tx, self._name, [claim_of(one, Status.DONE, ()) for one in fresh])

    async def _split(
        self,
        items: Sequence[Item],
        attempt: Callable[[Sequence[Item]], Awaitable[list[Any]]],
        store: Store,
    ) -> list[Any]:
        """Run `attempt` on all items, on halves when it fails; what fails alone moves on, and its
        inbox row is written by `store`."""
        try:
            return await self._patience.run(lambda: attempt(items))
        except (DatabaseOutage, TransientDatabase):
            raise
        except (SymphonyError, StatementError, HandlerFailed) as caught:
            if len(items) == 1:
                event = items[0].event if isinstance(items[0], Reply) else items[0]
                with bound(**log_fields(self._name, event)):
                    failure = self._failure(caught)
                    return [await self._patience.run(lambda: self._isolate(event, failure, store))]
            metrics.SPLITS.child(self._name).inc()
        middle = len(items) // 2
        first = await self._split(items[:middle], attempt, store)
        return first + await self._split(items[middle:], attempt, store)

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
                applied = await by_handler(handler.apply(tx, fresh, self._app.clock.now()))
                await failpoint("delivery.in_transaction", fresh)
            finished = await self._restore(tx, events, known)
            before = await by_handler(self._precedence.look_up(tx, unsure))
            if fresh:
                both = list(zip(fresh, applied, strict=True))
                await self._claim(tx, [claim_of(one, Status.DONE, a.outputs) for one, a in both])
                finished = finished | {one.event_id: finished_by(one, a) for one, a in both}
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
        writes = await by_handler(self._handler.restore(tx, again))
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

    async def _isolate(self, event: Event, error: SymphonyError, store: Store) -> Finished:
        """Move one failed event on, in a transaction of its own; if meanwhile another worker has
        finished it, repeat what that one stored."""
        async with self._app.db.transaction() as tx:
            known, fresh = await self._look_up(tx, [event])
            if not fresh:
                return known[event.event_id]
            claim, finished = self._move_on(tx, event, error)
            await failpoint("delivery.before_move", (event,))
            await store(tx, [claim])
        return finished

    def _move_on(
        self, tx: Transaction, event: Event, error: SymphonyError
    ) -> tuple[Claim, Finished]:
        """Move a failed event to a tier or to its dead letters: its inbox row, what to publish."""
        status, outputs = self._moves.move(tx, event, error)
        finished = Finished(event.partition, event.key, event.event_id, outputs, done=False)
        return claim_of(event, status, outputs), finished


def claim_of(event: Event, status: Status, outputs: Sequence[Output]) -> Claim:
    """Return the inbox row of an event that ended in `status` with `outputs`."""
    return Claim(
        event.event_id,
        status,
        event.delivery,
        pack(outputs),
        event.topic,
        event.partition,
        event.offset,
    )


def finished_by(event: Event, one: Applied) -> Finished:
    """Return what is left to do for an event that its handler has applied."""
    return Finished(
        event.partition, event.key, event.event_id, one.outputs, one.writes, about=one.about
    )
