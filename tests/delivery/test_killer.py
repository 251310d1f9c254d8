"""Which records the killer journal runs alone, and which not at all."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from faust.types import TP

from app.db.journal import Suspect
from app.delivery import killer
from app.delivery.killer import Group, KillerJournal, _ends, _spans
from tests.delivery.builders import record

pytestmark = pytest.mark.unit

ENDS_MAX = 3


def span(first: int, last: int, *, counted: bool = True, partition: int = 0) -> Suspect:
    return Suspect("orders", partition, first, last, counted)


@pytest.mark.parametrize(
    ("suspects", "ends"),
    [
        ([], None),
        ([span(1, 4)], None),
        ([span(6, 9)], None),
        ([span(1, 9)], 0),
        ([span(5, 5, counted=False)], 0),
        ([span(5, 5)], 1),
        ([span(1, 9), span(5, 5), span(5, 5), span(4, 4)], 2),
        ([span(5, 5)] * 3, 3),
    ],
)
def test_only_counted_ends_in_a_batch_of_one_count(
    suspects: list[Suspect], ends: int | None
) -> None:
    """A wide span makes its records suspects; only an end alone is held against a record."""
    assert _ends(suspects, 5) == ends


def test_spans_are_first_and_last_offset_per_partition() -> None:
    """Records of several partitions and with holes give one span each."""
    records = [record(5), record(2, partition=1), record(9), record(3, partition=1)]
    assert _spans(records) == {TP("orders", 0): (5, 9), TP("orders", 1): (2, 3)}


class StubbedJournal:
    """A killer journal whose look at PostgreSQL answers from memory."""

    def __init__(self, armed: bool, suspects: list[Suspect]) -> None:
        app = SimpleNamespace(settings=SimpleNamespace(killer_ends_max=ENDS_MAX))
        self.journal = KillerJournal(cast(Any, app))
        self.looks = 0
        self.opened: list[dict[TP, tuple[int, int]]] = []
        self.closed: list[dict[TP, tuple[int, int]]] = []

        async def read(_consumer: str) -> tuple[bool, list[Suspect]]:
            self.looks += 1
            return armed, suspects

        async def opens(_consumer: str, spans: dict[TP, tuple[int, int]]) -> None:
            self.opened.append(spans)

        async def closes(_consumer: str, spans: dict[TP, tuple[int, int]]) -> None:
            self.closed.append(spans)

        self.journal._read = read  # type: ignore[method-assign]
        self.journal._open = opens  # type: ignore[method-assign]
        self.journal._close = closes  # type: ignore[method-assign]

    async def prepared(self) -> KillerJournal:
        await self.journal.prepare("agent", [TP("orders", 0)], cast(Any, _Patience()))
        return self.journal


class _Patience:
    async def run(self, attempt: Any) -> Any:
        return await attempt()


def shape(groups: list[Group]) -> list[tuple[list[int], bool]]:
    return [([one.offset for one in group.records], group.killer is not None) for group in groups]


async def plan(suspects: list[Suspect], *offsets: int) -> list[tuple[list[int], bool]]:
    journal = await StubbedJournal(True, suspects).prepared()
    return shape(await journal.plan("agent", [record(one) for one in offsets]))


async def test_without_suspects_a_poll_is_one_group() -> None:
    """The common case costs nothing."""
    assert await plan([], 1, 2, 3) == [([1, 2, 3], False)]


async def test_suspects_run_alone_and_in_order() -> None:
    """The records of a fatal batch stand alone, their neighbours stay together around them."""
    assert await plan([span(3, 4)], 1, 2, 3, 4, 5, 6) == [
        ([1, 2], False),
        ([3], False),
        ([4], False),
        ([5, 6], False),
    ]


async def test_a_record_at_its_limit_is_not_run() -> None:
    """After so many ends alone the record is named a killer; one end fewer is one more try."""
    assert await plan([span(2, 2)] * ENDS_MAX + [span(3, 3)] * (ENDS_MAX - 1), 1, 2, 3) == [
        ([1], False),
        ([2], True),
        ([3], False),
    ]


async def test_suspects_of_another_partition_do_not_count() -> None:
    """Offsets are compared within their partition."""
    assert await plan([span(2, 2, partition=1)] * ENDS_MAX, 1, 2) == [([1, 2], False)]


async def test_an_armed_consumer_journals_what_it_runs() -> None:
    """Before a group runs its span is open, after it is closed; a killer is not run."""
    stub = StubbedJournal(True, [])
    journal = await stub.prepared()
    async with journal.watch("agent", Group([record(7), record(8)])):
        assert (stub.opened, stub.closed) == ([{TP("orders", 0): (7, 8)}], [])
    assert stub.closed == stub.opened
    async with journal.watch("agent", Group([record(9)], "3 ends")):
        assert len(stub.opened) == 1


async def test_a_failing_group_leaves_its_span_open() -> None:
    """What ends the process, or is abandoned, is what the successor must see."""
    stub = StubbedJournal(True, [])
    journal = await stub.prepared()
    with pytest.raises(ValueError, match="boom"):
        async with journal.watch("agent", Group([record(7)])):
            raise ValueError("boom")
    assert (len(stub.opened), stub.closed) == (1, [])


async def test_an_unarmed_consumer_writes_nothing() -> None:
    """Without a recent end that counts, batches cost no journal."""
    stub = StubbedJournal(False, [])
    journal = await stub.prepared()
    async with journal.watch("agent", Group([record(7)])):
        assert stub.opened == []


async def test_the_journal_is_looked_at_again_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker that lives on learns that another one of its role ended."""
    now = [100.0]
    monkeypatch.setattr(killer, "monotonic", lambda: now[0])
    stub = StubbedJournal(False, [])
    journal = await stub.prepared()
    await journal.plan("agent", [record(1)])
    assert stub.looks == 1
    now[0] += killer.REFRESH_S + 0.1
    await journal.plan("agent", [record(1)])
    assert stub.looks == 2
