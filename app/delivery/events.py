"""What a role's handler sees and gives back.

The delivery core calls a handler with events that are decoded and in order per partition, inside
the one transaction of the batch, which commits only when all of them are new for this consumer. The
handler returns what is to be published and written; the core stores it, publishes it and repeats it
after any crash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from aiokafka.structs import ConsumerRecord

from app.errors import SymphonyError
from app.messages.envelope import Output

if TYPE_CHECKING:
    from app.db.engine import Transaction


class Event(NamedTuple):
    """One decoded record. `event_id` is canonical UUID text, `attempt` 0 on first delivery.

    `delivery` orders the deliveries of one event across retries and redrives.
    """

    topic: str
    partition: int
    offset: int
    key: bytes
    event_id: str
    type: str
    body: Any
    attempt: int
    delivery: int
    correlation_id: str
    causation_id: str
    traceparent: str
    record: ConsumerRecord
    tracestate: str = ""


class Write(NamedTuple):
    """One table entry in the event's partition; value None deletes it."""

    table: str
    key: bytes
    value: bytes | None


class About(NamedTuple):
    """What a trace tells of an event's subject: its state then, and the context it began in."""

    state: str = ""
    traceparent: str = ""


class Applied(NamedTuple):
    """An event is finished: what to publish and which table entries to write.

    `about` is for traces only and is not stored.
    """

    outputs: tuple[Output, ...] = ()
    writes: tuple[Write, ...] = ()
    about: About = About()


class Call(NamedTuple):
    """An event needs a third party: the core records INTENT, then calls with `request`."""

    request: Any


class Retry(NamedTuple):
    """An event failed for now: the core moves it to a retry tier or to its dead letters."""

    error: SymphonyError


class Reply(NamedTuple):
    """What the third party said to `request`; `result` is an error when nothing is known."""

    event: Event
    request: Any
    result: Any


class Handler(Protocol):
    """Effects of a batch inside one transaction."""

    async def apply(
        self, tx: Transaction, events: Sequence[Event], now: datetime
    ) -> Sequence[Applied]:
        """Apply `events` in order; one Applied for each, in the same order.

        One order may occur several times. Called again with the same events after a rollback,
        so nothing outside `tx` may change. While `tx.guessing` an event may have been applied
        before; the core then notices and calls again. Raise app.errors.* (or let a database error
        pass) for an event that cannot be applied: the core splits the batch until it stands alone.
        """


@runtime_checkable
class CallingHandler(Protocol):
    """Effects around calls to a third party: apply - call - apply, one watermark move."""

    async def begin(
        self, tx: Transaction, events: Sequence[Event], now: datetime
    ) -> Sequence[Applied | Call | Retry]:
        """First transaction: record the attempt. An event seen as INTENT before comes again and
        must give a Call with the same idempotency key."""

    async def call(self, request: Any) -> Any:
        """Outside any transaction, concurrently, under the core's deadline. Raise Indefinite
        when the outcome is unknown; anything unforeseen is taken for that."""

    async def complete(
        self, tx: Transaction, replies: Sequence[Reply], now: datetime
    ) -> Sequence[Applied | Retry]:
        """Second transaction: record the outcomes, guarded by the attempt still being INTENT."""


@runtime_checkable
class FailureNotices(Protocol):
    """A handler that tells others when an event is retried or parked."""

    def retrying(
        self, event: Event, error: SymphonyError, due_at: datetime, now: datetime
    ) -> tuple[Output, ...]:
        """Outputs beside the retry-tier record."""

    def parked(self, event: Event, error: SymphonyError, now: datetime) -> tuple[Output, ...]:
        """Outputs beside the dead-letter record."""


@runtime_checkable
class MoveObserver(Protocol):
    """A handler that counts what became of its events elsewhere."""

    def moved(self, event: Event, *, parked: bool) -> None:
        """`event` is on a retry tier now, or parked with its dead letter; committed. Must not
        wait or raise."""


@runtime_checkable
class SelectiveHandler(Protocol):
    """A handler that wants only some of its topics' events.

    What does not concern it is passed over: decoded, so that poison is still dead-lettered, but
    without a transaction and without an inbox row.
    """

    def concerns(self, event: Event) -> bool:
        """Whether `event` has any effect here; asks no server and raises nothing. The answer may
        never change: an event that was passed over is not looked at again."""


@runtime_checkable
class TellingHandler(Protocol):
    """A handler whose state in memory is worth showing."""

    def said(self) -> Mapping[str, Any]:
        """What `/status` shows of it beside its consumer: JSON-encodable, small, from memory."""


class Ticked(NamedTuple):
    """Due work that was done: `event_id` is derived from the order and the timeout's number, so
    the same timeout never has two effects. Empty when there is nothing to publish."""

    event_id: str
    key: bytes
    applied: Applied


@runtime_checkable
class TickHandler(Protocol):
    """A handler with due work of its own."""

    def recovered(self, partitions: Sequence[int]) -> None:
        """Tables of `partitions` are recovered: rebuild the due heap. Replaces earlier ones."""

    async def tick(self, tx: Transaction, partition: int, now: datetime) -> Sequence[Ticked]:
        """Due work of one partition, bounded; empty (and no statement sent) when nothing is due.

        Runs about once a second, never beside a batch of the same consumer, and only when the
        partition's inputs were read to the end seen when the tick became due.
        """


@runtime_checkable
class DueHandler(Protocol):
    """A handler whose records may not be applied before a time of their own."""

    def due_at(self, event: Event) -> datetime | None:
        """When `event` may be applied; None for at once. It is not decoded: what says its time
        stands in the headers of its record."""


@runtime_checkable
class RestoringHandler(Protocol):
    """A handler with a working copy in a table."""

    async def restore(
        self, tx: Transaction, events: Sequence[Event]
    ) -> Sequence[tuple[Write, ...]]:
        """Table entries of events that were finished before, read from PostgreSQL, one tuple each.

        A worker can die between its commit and its table write; its successor finds the inbox row
        and must bring the table up to date before it publishes the stored outputs again. Called in
        the batch's transaction after `apply`, so it sees what `apply` wrote.
        """


@runtime_checkable
class OrderedHandler(Protocol):
    """A handler whose outputs of one key stand in their topic in the order of its events.

    A worker can die between its commit and its outputs, and its successor may read a later event
    of a key, fresh or repeated, before the repeat that publishes what was left unpublished.
    """

    def is_unsure(self, event: Event, *, again: bool) -> bool:
        """Whether outputs of the event's key may still be unpublished; asks no server.

        `again`: the event is known to have been finished before.
        """

    async def unpublished(
        self, tx: Transaction, events: Sequence[Event]
    ) -> Sequence[tuple[Output, ...]]:
        """What the keys of these unsure events have put out so far, in order: one tuple per event.
        The core publishes it, perhaps once more, before the event's own outputs."""

    def sure(self, events: Sequence[Event]) -> None:
        """That is committed to be published, or given up with this assignment."""


@runtime_checkable
class TableObserver(Protocol):
    """A handler that keeps something in memory about what it wrote."""

    def written(self, partition: int, writes: Sequence[Write]) -> None:
        """These entries are in the table now (acknowledged by the changelog)."""
