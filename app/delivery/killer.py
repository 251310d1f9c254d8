"""Records that end their worker process: found by a journal, dead-lettered after three ends.

A dying process reports nothing, so what it was doing must be written before. That costs one small
transaction per batch, and is done only while the consumer is *armed*: after a worker of its role
ended unclean within `killer_window_s`. The first end arms the journal; the second is seen in it
and splits its span into batches of one; a record whose batches of one ended the process
`killer_ends_max` times is dead-lettered as `killed_worker` without being run again.
Ends by watchdog, lease fence, drain, outage budget or SIGTERM never count.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from aiokafka.structs import ConsumerRecord
from faust.types import TP

from app.db import journal
from app.db.journal import Suspect
from app.delivery.exits import Reason, read_reason, stop_reason
from app.delivery.patience import Patience
from app.failpoints import failpoint

if TYPE_CHECKING:
    from pathlib import Path

    from app.delivery.app import App
    from app.settings import Settings

REFRESH_S = 5.0
"""How often an armed or unarmed consumer looks at the journal again."""


class Group(NamedTuple):
    """Records to run as one batch; `killer` names why they must not be run at all."""

    records: Sequence[ConsumerRecord]
    killer: str | None = None


class KillerJournal:
    """The journal of one worker process."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._armed: dict[str, bool] = {}
        self._suspects: dict[str, dict[TP, list[Suspect]]] = {}
        self._looked_at: dict[str, float] = {}
        self._mine: dict[str, list[TP]] = {}
        self._patience: dict[str, Patience] = {}

    async def prepare(self, consumer: str, tps: Sequence[TP], patience: Patience) -> None:
        """A new assignment: look for suspects on its partitions."""
        self._mine[consumer], self._patience[consumer] = list(tps), patience
        await self._look(consumer)

    async def plan(self, consumer: str, records: Sequence[ConsumerRecord]) -> list[Group]:
        """Cut a poll into groups: normally one; suspects stand alone, in order."""
        if monotonic() - self._looked_at.get(consumer, 0.0) > REFRESH_S:
            await self._look(consumer)
        suspects = self._suspects.get(consumer)
        if not suspects:
            return [Group(records)]
        groups: list[Group] = []
        calm: list[ConsumerRecord] = []
        for record in records:
            ends = _ends(suspects.get(TP(record.topic, record.partition), ()), record.offset)
            if ends is None:
                calm.append(record)
                continue
            if calm:
                groups.append(Group(calm))
                calm = []
            deadly = ends >= self._app.settings.killer_ends_max
            groups.append(Group([record], f"{ends} ends" if deadly else None))
        if calm:
            groups.append(Group(calm))
        return groups

    @asynccontextmanager
    async def watch(self, consumer: str, group: Group) -> AsyncIterator[None]:
        """While armed: journal the group before it runs, clear the entry when it is done."""
        if not self._armed.get(consumer) or group.killer is not None:
            yield
            return
        spans = _spans(group.records)
        patience = self._patience[consumer]
        await patience.run(lambda: self._open(consumer, spans))
        await failpoint("delivery.after_journal")
        yield
        await failpoint("delivery.before_journal_close")
        await patience.run(lambda: self._close(consumer, spans))

    async def _open(self, consumer: str, spans: dict[TP, tuple[int, int]]) -> None:
        async with self._app.db.transaction() as tx:
            await journal.open_spans(tx, consumer, run_id(self._app.settings), spans)

    async def _close(self, consumer: str, spans: dict[TP, tuple[int, int]]) -> None:
        async with self._app.db.transaction() as tx:
            await journal.close_spans(tx, consumer, run_id(self._app.settings), spans)

    async def _look(self, consumer: str) -> None:
        patience = self._patience[consumer]
        self._looked_at[consumer] = monotonic()
        armed, suspects = await patience.run(lambda: self._read(consumer))
        self._armed[consumer] = armed
        by_tp: dict[TP, list[Suspect]] = {}
        for suspect in suspects:
            by_tp.setdefault(TP(suspect.topic, suspect.partition), []).append(suspect)
        self._suspects[consumer] = by_tp

    async def _read(self, consumer: str) -> tuple[bool, list[Suspect]]:
        settings = self._app.settings
        async with self._app.db.transaction() as tx:
            if not await journal.is_armed(tx, self._app.role.name, settings.killer_window_s):
                return False, []
            tps = self._mine[consumer]
            return True, await journal.suspects(tx, consumer, run_id(settings), tps)


def _ends(suspects: Sequence[Suspect], offset: int) -> int | None:
    """How often `offset` alone ended a process; None when no open span holds it."""
    covering = [s for s in suspects if s.first_offset <= offset <= s.last_offset]
    if not covering:
        return None
    return sum(s.counted and s.first_offset == s.last_offset for s in covering)


def _spans(records: Sequence[ConsumerRecord]) -> dict[TP, tuple[int, int]]:
    """First and last offset per partition."""
    spans: dict[TP, tuple[int, int]] = {}
    for record in records:
        tp = TP(record.topic, record.partition)
        first, _ = spans.get(tp, (record.offset, 0))
        spans[tp] = (first, record.offset)
    return spans


def run_id(settings: Settings) -> str:
    """One start of one worker: worker id and incarnation, as the broker sees it too."""
    return f"{settings.worker_id}.{settings.incarnation}"


async def open_run(app: App, data_dir: Path) -> None:
    """Register this incarnation; close the runs its predecessors of this worker id left open,
    with the reason each left behind. May be repeated when its COMMIT was not answered."""
    settings = app.settings
    async with app.db.transaction() as tx:
        for run in await journal.open_runs(tx, settings.worker_id):
            if run == run_id(settings):
                continue
            incarnation = run.removeprefix(f"{settings.worker_id}.")
            reason = read_reason(data_dir, settings.worker_id, incarnation)
            counted = reason in (Reason.FAILURE, Reason.UNCLEAN)
            await journal.end_run(tx, run, reason, counted=counted)
        await journal.start_run(tx, app.role.name, settings.worker_id, run_id(settings))


async def close_run(app: App) -> None:
    """This incarnation stops in good order."""
    async with app.db.transaction() as tx:
        await journal.end_run(tx, run_id(app.settings), stop_reason(), counted=False)
