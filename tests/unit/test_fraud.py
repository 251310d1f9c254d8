"""The fraud rules: every weight at its boundary, and what a score leads to."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from app.domain.fraud import DEFAULT_POLICY, Action, Order, Policy, judge
from app.errors import InvalidSettings
from app.settings import load_settings
from chaos.workload.mix import DEFAULT_MIX, Outcome, Product, plan
from web.api.money import parse_minor
from web.api.screening import policy_of

pytestmark = pytest.mark.unit

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


def order(major: str = "12.34", **changes: Any) -> Order:
    return Order(parse_minor(major, "EUR"), 100, 0, NOON)._replace(**changes)


def points(verdict: Any) -> dict[str, int]:
    return {reason.rule: reason.points for reason in verdict.reasons}


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        ("999.99", 0),
        ("1000.00", 0),
        ("1000.01", 20),
        ("1999.99", 20),
        ("2000.00", 35),
        ("4999.99", 35),
        ("5000.00", 50),
        ("999999.99", 50),
    ],
)
def test_a_total_scores_from_its_threshold_on(total: str, expected: int) -> None:
    """More than 1,000; 2,000 or more; 5,000 or more."""
    assert points(judge(order(total))).get("total", 0) == expected


@pytest.mark.parametrize(
    ("earlier", "expected"), [(0, 0), (1, 0), (2, 20), (4, 20), (5, 40), (99, 40)]
)
def test_velocity_scores_from_half_of_its_maximum_on(earlier: int, expected: int) -> None:
    """Earlier orders count; the order itself does not."""
    assert points(judge(order(earlier=earlier))).get("velocity", 0) == expected


def test_a_velocity_of_one_does_not_score_for_a_first_order() -> None:
    """Half of one is no order at all, which every first order has."""
    policy = DEFAULT_POLICY._replace(velocity_max=1)
    assert points(judge(order(), policy)) == {}
    assert points(judge(order(earlier=1), policy)) == {"velocity": 40}


@pytest.mark.parametrize(
    ("total", "expected"), [("50.00", 15), ("50.01", 0), ("100.00", 15), ("25.00", 0), ("150", 15)]
)
def test_a_round_total_scores(total: str, expected: int) -> None:
    """Multiples of 50, and so those of 100."""
    assert points(judge(order(total))).get("round_total", 0) == expected


@pytest.mark.parametrize(
    ("hour", "minute", "expected"), [(0, 59, 0), (1, 0, 10), (5, 59, 10), (6, 0, 0), (13, 0, 0)]
)
def test_the_night_scores(hour: int, minute: int, expected: int) -> None:
    """From 01:00 to 05:59 UTC, whatever the zone of the given time."""
    at = NOON.replace(hour=hour, minute=minute)
    assert points(judge(order(at=at))).get("night", 0) == expected
    elsewhere = at.astimezone(timezone(timedelta(hours=9)))
    assert points(judge(order(at=elsewhere))).get("night", 0) == expected


def test_a_rule_without_points_is_off() -> None:
    """It gives no reason; a high total is reviewed all the same, and says why."""
    policy = DEFAULT_POLICY._replace(night_points=0, total_high_points=0)
    verdict = judge(order("1000.01", at=NOON.replace(hour=3)), policy)
    assert (verdict.score, verdict.action, points(verdict)) == (0, Action.REVIEW, {"total": 0})


def test_a_night_may_pass_midnight() -> None:
    """22 to 4 is a night as well."""
    policy = DEFAULT_POLICY._replace(night_from_h=22, night_to_h=4)
    found = [h for h in range(24) if points(judge(order(at=NOON.replace(hour=h)), policy))]
    assert found == [0, 1, 2, 3, 4, 22, 23]


@pytest.mark.parametrize(
    ("total", "earlier", "hour", "score", "action"),
    [
        ("12.34", 0, 12, 0, Action.ACCEPT),
        ("1000.00", 5, 3, 65, Action.ACCEPT),  # the most an order can score at up to 1,000
        ("1000.01", 0, 12, 20, Action.REVIEW),  # high, whatever it scores
        ("2000.01", 2, 12, 55, Action.REVIEW),
        ("2000.01", 5, 12, 75, Action.REVIEW),
        ("2050.00", 5, 12, 90, Action.REJECT),
        ("5000.01", 5, 12, 90, Action.REJECT),
        ("5000.01", 4, 12, 70, Action.REVIEW),
        ("5000.00", 5, 3, 100, Action.REJECT),  # 115 points, capped
    ],
)
def test_what_becomes_of_an_order(
    total: str, earlier: int, hour: int, score: int, action: Action
) -> None:
    """From 90 on it is rejected, from 70 on or above 1,000 it is reviewed."""
    verdict = judge(order(total, earlier=earlier, at=NOON.replace(hour=hour)))
    assert (verdict.score, verdict.action) == (score, action)


@pytest.mark.parametrize(
    ("score", "action"),
    [(69, Action.ACCEPT), (70, Action.REVIEW), (89, Action.REVIEW), (90, Action.REJECT)],
)
def test_the_thresholds_of_the_score(score: int, action: Action) -> None:
    """Each threshold belongs to what follows it."""
    policy = DEFAULT_POLICY._replace(round_points=score)
    assert judge(order("50.00"), policy).action is action


def test_totals_are_compared_in_the_currency_of_the_order() -> None:
    """Major units: 1,001 yen are as high as 1,001 euros and as 1,001 dinars of 1,000 fils."""
    for minor_per_major in (1, 100, 1000):
        found = judge(Order(1001 * minor_per_major, minor_per_major, 0, NOON))
        assert points(found) == {"total": 20}


def test_every_reason_tells_its_fact() -> None:
    """A reviewer reads why, not only how much."""
    verdict = judge(order("5000.00", earlier=7, at=NOON.replace(hour=2)))
    assert [reason.detail for reason in verdict.reasons] == [
        "the total is 5000 or more",
        "5 or more orders of this customer in 60 min before",
        "the total is a multiple of 50",
        "placed at 02:00 UTC",
    ]


def test_the_settings_are_the_policy() -> None:
    """Defaults are the rules' own, each field has its setting, and nonsense is refused."""
    assert policy_of(load_settings(role="web")) == DEFAULT_POLICY
    for number, name in enumerate(Policy._fields):
        if name.startswith(("total", "review", "reject")):
            continue
        changed = policy_of(load_settings(role="web", **{f"fraud_{name}": number + 1}))
        assert getattr(changed, name) == number + 1
    for wrong in ({"fraud_total_high": 3000}, {"fraud_review_score": 95}):
        with pytest.raises(InvalidSettings, match="must be below"):
            load_settings(role="web", **wrong)


def dear(orders: Iterable[Any], prices: dict[str, int]) -> list[int]:
    return [
        sum(prices[one["productId"]] * one["quantity"] for one in planned.body["items"])
        for planned in orders
        if "items" in planned.body
    ]


def test_no_order_of_the_load_waits_for_a_person() -> None:
    """At the worst hour, from the busiest customer, a planned order is still accepted."""
    catalogue = [
        Product("VIOLIN", 20_000, 129_900),
        Product("FLUTE", 50_000, 89_900),
        Product("TRUMPET", 50_000, 79_900),
        Product("ROSIN", 50_000, 990),
        Product("HARP", 0, 1_899_900),
        Product("MUTE", 0, 2_900),
    ]
    prices = {one.product_id: one.price_minor for one in catalogue}
    orders = plan(3_000, 50, 11, DEFAULT_MIX, catalogue)
    totals = dear(orders, prices)
    totals += [parse_minor(o.body["total"], "EUR") for o in orders if "total" in o.body]
    assert len(totals) == len(orders)
    worst = NOON.replace(hour=3)
    assert {judge(Order(total, 100, 99, worst)).action for total in totals} == {Action.ACCEPT}
    wanted = {item["productId"] for o in orders for item in o.body.get("items", ())}
    assert wanted == {"FLUTE", "TRUMPET", "ROSIN", "MUTE"}
    for planned in orders:
        bought = {item["productId"] for item in planned.body.get("items", ())}
        assert ("MUTE" in bought) == (planned.expected is Outcome.OUT_OF_STOCK)
