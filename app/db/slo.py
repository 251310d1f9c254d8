"""Panes of the service level indicators in PostgreSQL: written by role slo, read by anybody.

Guarantees: panes are written in the transaction of their events' inbox rows, so an event counts
once; writers of one partition come one after the other, so no count is lost between a suspended
worker and its successor. Reading is two statements, bounded by what is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol

from app.db.statements import statement
from app.slo.burn import Counts
from app.slo.panes import (
    FINE_WINDOWS,
    WINDOWS_S,
    Key,
    Pane,
    Scheme,
    Sli,
    merged,
    sketch_from_json,
    sketch_to_json,
)
from app.slo.report import LATENCY_WINDOWS, Figures
from app.slo.sketch import EMPTY, Sketch

if TYPE_CHECKING:
    from app.db.engine import Transaction
    from app.db.statements import Statement

Place = tuple[int, Key]
"""A partition and a pane of it."""

TRIMMED_MAX: Final = 500
_LOCKS: Final = 0x736C6F00  # "slo", room for 256 partitions
_ZERO: Final = "zero"

_KEYS = (
    "unnest(:slis::text[], :widths::int[], :starts::float8[], :partitions::int[])"
    " as k(sli, width_s, start_s, partition)"
)
_LOCK = statement(
    f"select pg_advisory_xact_lock({_LOCKS} + number) from unnest(:partitions::int[]) as number"
)
_READ = statement(
    f"""
    select p.sli, p.width_s, extract(epoch from p.start_at)::float8, p.partition, p.good, p.bad,
           p.sketch::text
      from {_KEYS}
      join slo.pane p on p.sli = k.sli and p.width_s = k.width_s
       and p.start_at = to_timestamp(k.start_s) and p.partition = k.partition
    """
)
_WRITE = statement(
    """
    insert into slo.pane (sli, width_s, start_at, partition, good, bad, sketch, updated_at)
    select sli, width_s, to_timestamp(start_s), partition, good, bad, sketch::jsonb, :now
      from unnest(:slis::text[], :widths::int[], :starts::float8[], :partitions::int[],
                  :goods::int[], :bads::int[], :sketches::text[])
        as n(sli, width_s, start_s, partition, good, bad, sketch)
    on conflict (sli, width_s, start_at, partition) do update
       set good = excluded.good, bad = excluded.bad, sketch = excluded.sketch,
           updated_at = excluded.updated_at
    """
)
_TRIM = statement(
    """
    delete from slo.pane where ctid in (
        select ctid from slo.pane
         where partition = :partition and sli = any(:slis::text[])
           and (width_s = :fine and start_at <= :fine_before ::timestamptz
                or width_s <> :fine and start_at <= :coarse_before ::timestamptz)
         limit :limit)
    """
)
_PROGRESS = statement(
    """
    insert into slo.progress (consumer, partition, at) values (:consumer, :partition, :at)
    on conflict (consumer, partition) do update set at = greatest(progress.at, excluded.at)
    """
)


def _sums() -> str:
    """Sums by indicator and width, a pair of columns for each window."""
    columns = ", ".join(
        f"coalesce(sum({what}) filter (where start_at > :since_{window} ::timestamptz), 0)"
        for window in WINDOWS_S
        for what in ("good", "bad")
    )
    return f"""
        select sli, width_s, {columns} from slo.pane
         where width_s = :fine and start_at > :fine_since ::timestamptz
            or width_s = :coarse and start_at > :coarse_since ::timestamptz
         group by sli, width_s
    """


def _buckets() -> str:
    """Counts by width and bucket, one column for each window whose quantiles are told."""
    columns = ", ".join(
        f"coalesce(sum(b.count::int) filter (where start_at > :since_{window} ::timestamptz), 0)"
        for window in LATENCY_WINDOWS
    )
    return f"""
        select width_s, b.bucket, {columns} from slo.pane,
               jsonb_each_text((sketch->'buckets') || jsonb_build_object('{_ZERO}', sketch->'zero'))
               as b(bucket, count)
         where sli = :sli
           and (width_s = :fine and start_at > :since_5m ::timestamptz
                or width_s = :coarse and start_at > :since_6h ::timestamptz)
         group by width_s, b.bucket
    """


_SUMS = statement(_sums())
_BUCKETS = statement(_buckets())
_AGE = statement("select consumer, partition, at from slo.progress")


class Reader(Protocol):
    """A database or a transaction."""

    async def fetch(self, statement: Statement, /, **params: Any) -> list[tuple[Any, ...]]:
        """Return the rows of one statement."""


async def add(tx: Transaction, deltas: Mapping[Place, Pane], now: datetime) -> dict[Place, Pane]:
    """Add `deltas` to the panes; return the panes as they are then. One round trip; the write
    travels with the next one."""
    if not deltas:
        return {}
    places = sorted(deltas)
    tx.later(_LOCK, partitions=sorted({partition for partition, _ in places}))
    before = await read(tx, places)
    after = {
        place: merged((before[place], deltas[place])) if place in before else deltas[place]
        for place in places
    }
    tx.later(
        _WRITE,
        **_columns(places),
        goods=[after[place].good for place in places],
        bads=[after[place].bad for place in places],
        sketches=[sketch_to_json(after[place].sketch) for place in places],
        now=now,
    )
    return after


async def read(tx: Reader, places: Sequence[Place]) -> dict[Place, Pane]:
    """Return those of the panes that exist."""
    if not places:
        return {}
    return {
        (partition, Key(sli, width_s, int(start_s))): Pane(good, bad, sketch_from_json(sketch))
        for sli, width_s, start_s, partition, good, bad, sketch in await tx.fetch(
            _READ, **_columns(places)
        )
    }


def trim(
    tx: Transaction, slis: Iterable[str], partition: int, scheme: Scheme, now: datetime
) -> None:
    """Queue: delete panes of a partition that are not kept any longer, at most TRIMMED_MAX."""

    def before(width_s: int) -> datetime:
        return now - timedelta(seconds=width_s + scheme.kept_s(width_s))

    tx.later(
        _TRIM,
        partition=partition,
        slis=sorted(slis),
        fine=scheme.fine_s,
        fine_before=before(scheme.fine_s),
        coarse_before=before(scheme.coarse_s),
        limit=TRIMMED_MAX,
    )


def progressed(tx: Transaction, consumer: str, partition: int, now: datetime) -> None:
    """Queue: `consumer` has read what stood in the partition at `now`."""
    tx.later(_PROGRESS, consumer=consumer, partition=partition, at=now)


async def figures(
    reader: Reader, scheme: Scheme, now: datetime, *, latency_of: Sli, consumers: Mapping[str, int]
) -> Figures:
    """Return what the panes say at `now`; quantiles are of the SLI `latency_of`.

    `consumers` says of how many partitions each must have told its progress.
    """
    since = {window: _since(scheme, window, now) for window in WINDOWS_S}
    widths = {"fine": scheme.fine_s, "coarse": scheme.coarse_s}
    rows = await reader.fetch(
        _SUMS,
        **{f"since_{window}": at for window, at in since.items()},
        **widths,
        fine_since=min(at for window, at in since.items() if window in FINE_WINDOWS),
        coarse_since=min(since.values()),
    )
    buckets = await reader.fetch(
        _BUCKETS,
        **{f"since_{window}": since[window] for window in LATENCY_WINDOWS},
        **widths,
        sli=latency_of,
    )
    progress = await reader.fetch(_AGE)
    return Figures(
        _counts(rows, scheme),
        {window: _sketch(buckets, scheme, window) for window in LATENCY_WINDOWS},
        _read_until(progress, consumers),
    )


def _since(scheme: Scheme, window: str, now: datetime) -> datetime:
    """Panes that begin after this belong to the window: their end is inside it."""
    return now - timedelta(seconds=scheme.windows_s[window] + scheme.width_of(window))


def _counts(rows: Sequence[tuple[Any, ...]], scheme: Scheme) -> dict[str, dict[str, Counts]]:
    found: dict[str, dict[str, Counts]] = {}
    for sli, width_s, *sums in rows:
        for number, window in enumerate(WINDOWS_S):
            if scheme.width_of(window) == width_s:
                counts = Counts(sums[2 * number], sums[2 * number + 1])
                found.setdefault(sli, {})[window] = counts
    return found


def _sketch(rows: Sequence[tuple[Any, ...]], scheme: Scheme, window: str) -> Sketch:
    column = 2 + LATENCY_WINDOWS.index(window)
    counted = {
        row[1]: row[column] for row in rows if row[0] == scheme.width_of(window) and row[column]
    }
    if not counted:
        return EMPTY
    zero = counted.pop(_ZERO, 0)
    return Sketch(zero, {int(bucket): count for bucket, count in counted.items()})


def _read_until(rows: Sequence[tuple[Any, ...]], consumers: Mapping[str, int]) -> datetime | None:
    told: dict[tuple[str, int], datetime] = {(name, number): at for name, number, at in rows}
    needed = [(name, number) for name, count in consumers.items() for number in range(count)]
    if not needed or any(one not in told for one in needed):
        return None
    return min(told[one].astimezone(UTC) for one in needed)


def _columns(places: Sequence[Place]) -> dict[str, Any]:
    return {
        "slis": [key.sli for _, key in places],
        "widths": [key.width_s for _, key in places],
        "starts": [float(key.start_s) for _, key in places],
        "partitions": [partition for partition, _ in places],
    }
