"""The idempotency table: the pre-filter of finished events."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.delivery import idempotency
from app.delivery.effects import Finished
from app.delivery.events import Event, Write
from app.delivery.idempotency import IdempotencyTable
from app.messages import Output
from tests.delivery.builders import event

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RETENTION_S = 900
OUT = Output("out", b"1", b"value", [("ce_id", b"x")], 0)


class FakeStore:
    """The partitioned store of a Faust table, in memory."""

    offset_key = b"__offset"

    def __init__(self) -> None:
        self.partitions: dict[int, dict[bytes, bytes]] = defaultdict(dict)

    def _db_for_partition(self, partition: int) -> dict[bytes, bytes]:
        return self.partitions[partition]

    def write(self, partition: int, writes: Iterable[Write]) -> None:
        for one in writes:
            if one.value is None:
                self.partitions[partition].pop(one.key, None)
            else:
                self.partitions[partition][one.key] = one.value


@pytest.fixture
def store() -> FakeStore:
    """An empty store."""
    return FakeStore()


@pytest.fixture
def table(store: FakeStore) -> IdempotencyTable:
    """The table over that store."""
    app = SimpleNamespace(settings=SimpleNamespace(table_entry_retention_s=RETENTION_S))
    return IdempotencyTable(cast(Any, app), SimpleNamespace(name="seen", data=store))


def finished(one: Event, *, done: bool = True) -> Finished:
    return Finished(one.partition, one.key, one.event_id, (OUT,), (), done)


def remember(table: IdempotencyTable, store: FakeStore, one: Event, now: datetime = NOW) -> None:
    store.write(one.partition, table.remember(finished(one), now).writes)


def test_a_finished_event_is_seen_again_with_its_outputs(
    table: IdempotencyTable, store: FakeStore
) -> None:
    """A hit carries what must be published again, and needs no table write."""
    remember(table, store, event(1))
    fresh, seen = table.split([event(1), event(2)])
    assert [one.key for one in fresh] == [b"2"]
    assert [(one.event_id, list(one.outputs), one.writes, one.done) for one in seen] == [
        (event(1).event_id, [OUT], (), True)
    ]


def test_a_retried_or_parked_event_does_not_enter(table: IdempotencyTable) -> None:
    """What moved on as a later delivery must really be tried then."""
    one = finished(event(1), done=False)
    assert table.remember(one, NOW) is one


def test_other_table_writes_are_kept(table: IdempotencyTable) -> None:
    """The entry is added behind the writes that the handler asked for."""
    write = Write("sagas", b"1", b"state")
    writes = table.remember(finished(event(1))._replace(writes=(write,)), NOW).writes
    assert [one.table for one in writes] == ["sagas", "seen"]


def test_partitions_are_apart(table: IdempotencyTable, store: FakeStore) -> None:
    """An entry answers in its own partition only."""
    remember(table, store, event(1, partition=0))
    assert table.split([event(1, partition=1)])[1] == []


def test_entries_leave_after_their_retention(table: IdempotencyTable, store: FakeStore) -> None:
    """Past the retention an entry is deleted, once; younger ones stay."""
    remember(table, store, event(1))
    remember(table, store, event(2), NOW + timedelta(seconds=60))
    assert table.expired(0, NOW + timedelta(seconds=RETENTION_S)) == ()
    later = NOW + timedelta(seconds=RETENTION_S + 1)
    writes = table.expired(0, later)
    assert [(one.key, one.value) for one in writes] == [((1).to_bytes(16, "big"), None)]
    assert table.expired(0, later) == ()
    store.write(0, writes)
    fresh, seen = table.split([event(1), event(2)])
    assert ([one.key for one in fresh], [one.key for one in seen]) == ([b"1"], [b"2"])


def test_a_sweep_is_bounded(
    table: IdempotencyTable, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sweep takes out so many entries at most; the next goes on."""
    monkeypatch.setattr(idempotency, "SWEEP_MAX", 3)
    for number in range(5):
        remember(table, store, event(number))
    later = NOW + timedelta(seconds=2 * RETENTION_S)
    assert [len(table.expired(0, later)) for _ in range(3)] == [3, 2, 0]


def test_ages_are_rebuilt_from_the_recovered_table(
    table: IdempotencyTable, store: FakeStore
) -> None:
    """A successor expires what its predecessor entered, and forgets foreign partitions."""
    remember(table, store, event(2), NOW + timedelta(seconds=60))
    remember(table, store, event(1))
    store.partitions[0][store.offset_key] = b"17"
    remember(table, store, event(3, partition=1))
    table.recovered([0])
    later = NOW + timedelta(seconds=2 * RETENTION_S)
    assert [one.key[-1] for one in table.expired(0, later)] == [1, 2]
    assert table.expired(1, later) == ()
