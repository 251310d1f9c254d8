"""What the demo says of its facts, and when it calls its own run void."""

from __future__ import annotations

from chaos.demo.kills import Kill
from chaos.demo.story import doubts, kills_table, outcomes_table

ALL_ENDED = {
    ("happy", "COMPLETED"): 7,
    ("declined", "CANCELLED (payment_declined)"): 1,
    ("out_of_stock", "CANCELLED (out_of_stock)"): 1,
    ("shipping_refused", "CANCELLED (shipping_refused)"): 1,
    ("cancelled", "CANCELLED (customer)"): 1,
}
IDLE = ["O2", "D1"]
PROVED = [Kill("relay-1", "pid 10 is gone, pid 11 serves", 3.5)]


def test_a_complete_run_leaves_no_doubt() -> None:
    """Every class seen, every kill proved, every invariant busy: nothing to add."""
    assert doubts(ALL_ENDED, PROVED, IDLE) == []


def test_a_class_without_its_own_end_is_a_doubt() -> None:
    """Cancelled orders that were all shipped do not show a cancellation."""
    outcomes = dict(ALL_ENDED)
    outcomes["cancelled", "COMPLETED"] = outcomes.pop(("cancelled", "CANCELLED (customer)"))
    assert doubts(outcomes, PROVED, IDLE) == ["no order of class cancelled ended as it should"]


def test_a_kill_without_effect_and_an_idle_invariant_are_doubts() -> None:
    """A fault that was not seen to bite, or an invariant that saw nothing, voids the run."""
    found = doubts(ALL_ENDED, [Kill("relay-1", problem="pid 10 still lives")], ["P5"])
    assert found == [
        "the kill of relay-1 is not proved: pid 10 still lives",
        "P5 had nothing to examine",
    ]


def test_tables_name_every_row() -> None:
    """Kills show proof and times; outcomes show class, end, count and meaning."""
    table = kills_table([*PROVED, Kill("web-1", problem="gone")])
    assert "relay-1  3.5 s                   pid 10 is gone, pid 11 serves" in table
    assert "NOT PROVED: gone" in table
    late = outcomes_table({**ALL_ENDED, ("cancelled", "COMPLETED"): 2})
    assert "shipped, and the customer was told" in late
    assert "refunded" in late
