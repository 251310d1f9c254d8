"""How suspicious an order is, from 0 to 100, and what becomes of it. Pure.

An order is judged by its total, by how many orders its customer placed just before, by a round
total and by the hour. Thresholds of money are in major units of the order's own currency: 1,000 EUR
and 1,000 JPY count alike, nothing is converted. Hours are those of UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

SCORE_MAX = 100


class Policy(NamedTuple):
    """The weights and thresholds; every field is the setting `fraud_<field>`."""

    total_high: int = 1000
    total_higher: int = 2000
    total_highest: int = 5000
    total_high_points: int = 20
    total_higher_points: int = 35
    total_highest_points: int = 50
    velocity_window_min: int = 60
    velocity_max: int = 5
    velocity_half_points: int = 20
    velocity_max_points: int = 40
    round_total: int = 50
    round_points: int = 15
    night_from_h: int = 1
    night_to_h: int = 5
    night_points: int = 10
    review_score: int = 70
    reject_score: int = 90


DEFAULT_POLICY = Policy()


class Order(NamedTuple):
    """What is judged: `minor_per_major` is 100 for EUR and 1 for JPY.

    `earlier` counts the orders that the customer placed in the window before this one; more than
    `velocity_max` need not be told.
    """

    total_minor: int
    minor_per_major: int
    earlier: int
    at: datetime


class Action(StrEnum):
    """What becomes of an order: it goes on, a person looks at it, or it is rejected at once."""

    ACCEPT = "ACCEPT"
    REVIEW = "REVIEW"
    REJECT = "REJECT"


class Reason(NamedTuple):
    """One rule that applied, by its name, with its points and the facts."""

    rule: str
    points: int
    detail: str


class Verdict(NamedTuple):
    """The judgement; the points of `reasons` may sum to more than `score`, which is capped."""

    score: int
    action: Action
    reasons: tuple[Reason, ...]


def judge(order: Order, policy: Policy = DEFAULT_POLICY) -> Verdict:
    """Return the verdict on an order; a total above `total_high` is reviewed at any score.

    A rule without points is off and no reason; the total remains one, as it holds an order alone.
    """
    reasons = tuple(one for one in _reasons(order, policy) if one.points or one.rule == "total")
    score = min(SCORE_MAX, sum(reason.points for reason in reasons))
    if score >= policy.reject_score:
        action = Action.REJECT
    elif score >= policy.review_score or _is_high(order, policy):
        action = Action.REVIEW
    else:
        action = Action.ACCEPT
    return Verdict(score, action, reasons)


def _reasons(order: Order, policy: Policy) -> Iterator[Reason]:
    if _is_high(order, policy):
        for least, points in (
            (policy.total_highest, policy.total_highest_points),
            (policy.total_higher, policy.total_higher_points),
        ):
            if order.total_minor >= least * order.minor_per_major:
                yield Reason("total", points, f"the total is {least} or more")
                break
        else:
            detail = f"the total is more than {policy.total_high}"
            yield Reason("total", policy.total_high_points, detail)
    placed = f"orders of this customer in {policy.velocity_window_min} min before"
    if order.earlier >= policy.velocity_max:
        detail = f"{policy.velocity_max} or more {placed}"
        yield Reason("velocity", policy.velocity_max_points, detail)
    elif order.earlier >= max(1, policy.velocity_max // 2):
        yield Reason("velocity", policy.velocity_half_points, f"{order.earlier} {placed}")
    if order.total_minor % (policy.round_total * order.minor_per_major) == 0:
        detail = f"the total is a multiple of {policy.round_total}"
        yield Reason("round_total", policy.round_points, detail)
    if _is_night(order.at.astimezone(UTC).hour, policy):
        detail = f"placed at {order.at.astimezone(UTC):%H:%M} UTC"
        yield Reason("night", policy.night_points, detail)


def _is_night(hour: int, policy: Policy) -> bool:
    """Both hours belong to the night, which may pass midnight."""
    if policy.night_from_h <= policy.night_to_h:
        return policy.night_from_h <= hour <= policy.night_to_h
    return hour >= policy.night_from_h or hour <= policy.night_to_h


def _is_high(order: Order, policy: Policy) -> bool:
    return order.total_minor > policy.total_high * order.minor_per_major
