"""Which events are new to a consumer."""

from __future__ import annotations

import pytest

from app.db.inbox import InboxRow, Status
from app.delivery.deduplicate import first_deliveries, is_finished
from app.delivery.failures import as_symphony_error
from app.errors import Indefinite, Poison
from tests.delivery.builders import event

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("status", "attempt", "delivery", "finished"),
    [
        (Status.DONE, 0, 0, True),
        (Status.DONE, 0, 5, True),
        (Status.INTENT, 0, 0, False),
        (Status.INTENT, 3, 0, False),
        (Status.RETRYING, 0, 0, True),
        (Status.RETRYING, 0, 1, False),
        (Status.RETRYING, 1, 1, True),
        (Status.PARKED, 3, 3, True),
        (Status.PARKED, 3, 4, False),
        (Status.PARKED, 3, 10_000, False),
    ],
)
def test_only_a_definite_outcome_or_an_older_delivery_is_finished(
    status: Status, attempt: int, delivery: int, finished: bool
) -> None:
    """INTENT is called again, a later delivery of a retried or parked event is really tried."""
    assert is_finished(InboxRow(status, attempt, b""), delivery) is finished


def test_an_event_without_a_row_is_new() -> None:
    """What the inbox does not know is applied."""
    assert not is_finished(None, 0)


def test_a_repeated_event_stands_once_in_a_batch() -> None:
    """Duplicates in one poll are dropped; the first keeps its place."""
    kept, dropped = first_deliveries([event(1), event(2), event(1, offset=9), event(3), event(2)])
    assert ([one.key for one in kept], dropped) == ([b"1", b"2", b"3"], 2)
    assert kept[0].offset == 0


@pytest.mark.parametrize("later_first", [True, False])
def test_the_latest_delivery_wins_at_the_first_place(later_first: bool) -> None:
    """A retry beside an older copy of its event is the one that is tried."""
    copies = [event(1, delivery=2), event(1)]
    if not later_first:
        copies.reverse()
    kept, dropped = first_deliveries([copies[0], event(2), copies[1]])
    assert ([(one.key, one.delivery) for one in kept], dropped) == ([(b"1", 2), (b"2", 0)], 1)


def test_an_unforeseen_error_may_have_happened() -> None:
    """An exception without a class of ours is Indefinite and names what it was; ours stay."""
    named = as_symphony_error(ZeroDivisionError("by nought"))
    assert isinstance(named, Indefinite)
    assert str(named) == "indefinite: ZeroDivisionError: by nought"
    poison = Poison("bad_command")
    assert as_symphony_error(poison) is poison
