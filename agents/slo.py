"""Role slo: counts what the service level objectives are judged by.

An event is counted by the time at which it happened, in the transaction of its inbox row: a repeat
moves nothing, and neither does whatever delays this role. What the panes are is `app.slo.panes`,
what an event says `app.slo.outcomes`, what is made of both `app.slo.report`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from app.census.service import CensusService
from app.clock import Clock
from app.db import slo as rows
from app.db.slo import Place
from app.delivery import (
    Applied,
    DueHeap,
    Event,
    Table,
    Ticked,
    Write,
    consume,
    table_items,
)
from app.delivery.decoding import letter_id
from app.errors import BrokenObjective
from app.observability import metrics
from app.observability.logging import get_log
from app.slo import outcomes
from app.slo.objectives import completion_s
from app.slo.outcomes import Reading
from app.slo.panes import (
    ODD,
    Key,
    Odd,
    Pane,
    Sli,
    from_bytes,
    keys_of,
    merged,
    pane_of,
    place,
    scheme_of,
    to_bytes,
)
from app.slo.service import SnapshotService
from app.topics import DEAD_LETTER_TOPICS, ORDER_STATUS_CHANGED
from tables import slo_panes

if TYPE_CHECKING:
    from app.db.engine import Transaction
    from app.delivery import App
    from app.settings import Settings

log = get_log(__name__)

NAME = "slo"
LETTERS = "slo-letters"
TRIMMED_MAX = 500
"""Table entries that one tick takes away."""


class Counted(NamedTuple):
    """What one event adds to which panes, and what is odd about it."""

    panes: tuple[tuple[Key, Pane], ...]
    odd: tuple[Odd, ...]


class Panes:
    """Counts events into panes; commutative, each event once, whatever its repeats."""

    def __init__(
        self,
        settings: Settings,
        table: Table,
        clock: Clock,
        *,
        name: str,
        slis: Iterable[Sli],
        read: Callable[[Event, float], Reading],
    ) -> None:
        """`read` says what an event means that happened at a time; no other consumer writes panes
        of `slis`."""
        self._name = name
        self._slis = frozenset(slis)
        self._read = read
        self._table = table
        self._clock = clock
        self._scheme = scheme_of(settings.slo_time_scale)
        self._skew_max_s = settings.slo_skew_max_s
        self._progress = timedelta(seconds=settings.slo_progress_interval_s)
        self._heaps: dict[int, DueHeap] = {}
        self._taken: dict[int, dict[bytes, datetime]] = {}
        self._told: dict[int, datetime] = {}
        self._counted: dict[tuple[int, Key], tuple[int, int]] = {}

    async def apply(self, tx: Transaction, events: Sequence[Event], now: datetime) -> list[Applied]:
        """Add the batch to the panes: one write per pane, whatever the number of events."""
        deltas: dict[Place, list[Pane]] = {}
        last: dict[int, int] = {}
        odd: list[Odd] = []
        for number, event in enumerate(events):
            last[event.partition] = number
            counted = self._counted_in(event, now)
            odd += counted.odd
            for key, pane in counted.panes:
                deltas.setdefault((event.partition, key), []).append(pane)
        if odd:
            tx.after_commit(lambda: _count_odd(odd))
        after = await rows.add(tx, {place: merged(panes) for place, panes in deltas.items()}, now)
        applied = [Applied()] * len(events)
        for partition, number in last.items():
            applied[number] = Applied((), _writes(after, partition))
        return applied

    async def restore(self, tx: Transaction, events: Sequence[Event]) -> list[tuple[Write, ...]]:
        """The panes of these events, as PostgreSQL has them."""
        now = self._clock.now()
        places = [
            [(event.partition, key) for key, _ in self._counted_in(event, now).panes]
            for event in events
        ]
        stored = await rows.read(tx, sorted({one for listed in places for one in listed}))
        return [
            tuple(
                Write(slo_panes.NAME, key.packed(), to_bytes(stored[partition, key]))
                for partition, key in listed
                if (partition, key) in stored
            )
            for listed in places
        ]

    def _counted_in(self, event: Event, now: datetime) -> Counted:
        """What the event adds to which panes, given what its envelope and the broker say of its
        time."""
        received_s, now_s = event.record.timestamp / 1000, now.timestamp()
        ce_time = dict(event.record.headers).get("ce_time") if event.body is not None else None
        at_s = outcomes.time_of(ce_time, received_s)
        reading = self._read(event, at_s)
        placed = place(at_s, received_s, now_s, scheme=self._scheme, skew_max_s=self._skew_max_s)
        odd = (*reading.odd, placed.odd) if placed.odd else reading.odd
        if placed.at_s is None:
            return Counted((), odd)
        panes = tuple(
            (key, pane_of(one))
            for one in reading.measured
            for key in keys_of(one.sli, placed.at_s, now_s, self._scheme)
        )
        return Counted(panes, odd)

    def recovered(self, partitions: Sequence[int]) -> None:
        """Rebuild what leaves the table when, from the recovered table."""
        self._heaps, self._counted = {}, {}
        self._taken = {one: {} for one in partitions}
        self._told = {}
        for partition in partitions:
            mine = [
                (Key.unpacked(raw), raw, value)
                for raw, value in table_items(self._table, partition)
            ]
            mine = [one for one in mine if one[0].sli in self._slis]
            self._heaps[partition] = DueHeap((self._leaves_at(key), raw) for key, raw, _ in mine)
            for key, _, value in mine:
                pane = from_bytes(value)
                self._counted[partition, key] = (pane.good, pane.bad)

    def written(self, partition: int, writes: Sequence[Write]) -> None:
        """Keep in mind what leaves when; count for the metrics what the table did not hold yet."""
        heap = self._heaps.get(partition)
        if heap is None:
            return
        for write in writes:
            self._taken[partition].pop(write.key, None)
            key = Key.unpacked(write.key)
            if write.value is None:
                self._counted.pop((partition, key), None)
                heap.push(write.key, None)
                continue
            heap.push(write.key, self._leaves_at(key))
            pane = from_bytes(write.value)
            good, bad = self._counted.get((partition, key), (0, 0))
            self._counted[partition, key] = (pane.good, pane.bad)
            if key.width_s == self._scheme.coarse_s:
                metrics.SLO_EVENTS.child(key.sli, "good").inc(max(0, pane.good - good))
                metrics.SLO_EVENTS.child(key.sli, "bad").inc(max(0, pane.bad - bad))

    def said(self) -> dict[str, Any]:
        """What the table holds, by indicator: panes, and the good and bad of all that is kept."""
        told: dict[str, dict[str, int]] = {
            sli: {"panes": 0, "good": 0, "bad": 0} for sli in sorted(self._slis)
        }
        for (_, key), (good, bad) in self._counted.items():
            one = told[key.sli]
            one["panes"] += 1
            if key.width_s == self._scheme.coarse_s:
                one["good"] += good
                one["bad"] += bad
        return told

    async def tick(self, tx: Transaction, partition: int, now: datetime) -> list[Ticked]:
        """Take away panes that no window needs, here and in PostgreSQL; tell the progress."""
        heap, taken = self._heaps[partition], self._taken[partition]
        for key, at in taken.items():
            heap.push(key, at)  # an earlier try of this tick was rolled back
        keys = heap.pop_due(now, TRIMMED_MAX)
        self._taken[partition] = dict.fromkeys(keys, now)
        told = self._told.get(partition)
        if keys or told is None:
            rows.trim(tx, self._slis, partition, self._scheme, now)
        if told is None or now >= told + self._progress:
            rows.progressed(tx, self._name, partition, now)
            self._told[partition] = now
        return [Ticked("", key, Applied((), (Write(slo_panes.NAME, key, None),))) for key in keys]

    def _leaves_at(self, key: Key) -> datetime:
        kept_s = key.width_s + self._scheme.kept_s(key.width_s)
        return datetime.fromtimestamp(key.start_s + kept_s, UTC)


class Outcomes(Panes):
    """Counts what became of orders; a change of status that says nothing leaves no trace."""

    def concerns(self, event: Event) -> bool:
        """Whether the status says anything to an objective."""
        return event.body.status in outcomes.COUNTED


class Unread(Outcomes):
    """Outcomes, while nobody can say which are good: of what nobody reads no progress is told."""

    async def tick(self, tx: Transaction, partition: int, now: datetime) -> list[Ticked]:
        """Nothing: an end that is not looked at is not read to."""
        return []


def outcomes_of(
    settings: Settings, table: Table, clock: Clock, kind: type[Outcomes] = Outcomes
) -> Outcomes:
    """Return the handler of changes of status; it raises BrokenObjective as `completion_s` does."""
    return kind(
        settings,
        table,
        clock,
        name=NAME,
        slis=("completion", "availability", "fraud"),
        read=lambda event, at_s: outcomes.read(event.body, at_s, threshold_s=completion_s()),
    )


def letters_of(settings: Settings, table: Table, clock: Clock) -> Panes:
    """Return the handler of dead letters: each record of a dead-letter topic is one, or a copy."""
    return Panes(
        settings,
        table,
        clock,
        name=LETTERS,
        slis=("dead_letters",),
        read=lambda event, at_s: Reading((outcomes.DEAD_LETTER,)),
    )


def register(app: App) -> None:
    """Declare both agents, their table, the service that tells what the panes say, and the census.

    While an objective's file is broken nobody can say what is good: nothing is told then, and
    outcomes stay in their topic, to be counted by a worker that starts with better files. Dead
    letters and the census need no objective.
    """
    usable = _are_usable(app)
    table = slo_panes.declare(app)
    for odd in ODD:
        metrics.SLO_ODD_EVENTS.child(odd)
    consume(
        app,
        name=NAME,
        topics=(ORDER_STATUS_CHANGED,),
        handler=outcomes_of(app.settings, table, app.clock, Outcomes if usable else Unread),
        tables=(table,),
    )
    consume(
        app,
        name=LETTERS,
        topics=tuple(DEAD_LETTER_TOPICS.values()),
        handler=letters_of(app.settings, table, app.clock),
        tables=(table,),
        raw=True,
        known_by=letter_id,
    )
    if usable:
        app.service(SnapshotService(app))
    app.service(CensusService(app))


def _are_usable(app: App) -> bool:
    """Whether outcomes can be judged; if not, they are left unread."""
    try:
        completion_s()
    except BrokenObjective as error:
        app.taps.pause(NAME, (ORDER_STATUS_CHANGED.name,))
        log.error("slo.objectives_broken", reason=error.detail)
        return False
    return True


def _writes(after: dict[Place, Pane], partition: int) -> tuple[Write, ...]:
    return tuple(
        Write(slo_panes.NAME, key.packed(), to_bytes(pane))
        for (number, key), pane in after.items()
        if number == partition
    )


def _count_odd(odd: Iterable[Odd]) -> None:
    for one in odd:
        metrics.SLO_ODD_EVENTS.child(one).inc()
