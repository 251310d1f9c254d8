"""A campaign's load does not run dry, however long its faults take."""

from __future__ import annotations

from itertools import islice

from chaos.workload.mix import Outcome, Product
from chaos.workload.traffic import PLANNED_AT_ONCE, without_end

CATALOGUE = [Product("in-stock", 1_000_000), Product("sold-out", 0)]


def test_orders_go_on_at_the_same_rate_behind_every_part_of_the_plan() -> None:
    """Numbers and due times have no gap, every class comes in each part, and it can be repeated."""
    orders = list(islice(without_end(50.0, 3, CATALOGUE), 2 * PLANNED_AT_ONCE + 1))
    assert [one.number for one in orders] == list(range(2 * PLANNED_AT_ONCE + 1))
    assert all(one.due_s == one.number / 50.0 for one in orders)
    second = orders[PLANNED_AT_ONCE : 2 * PLANNED_AT_ONCE]
    assert {one.expected for one in second} == set(Outcome)
    assert [one.body for one in second] != [one.body for one in orders[:PLANNED_AT_ONCE]]
    assert list(islice(without_end(50.0, 3, CATALOGUE), len(orders))) == orders
