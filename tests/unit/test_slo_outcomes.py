"""What a change of status says to the objectives."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.definition import FINAL, REASONS, State
from app.messages import OrderStatusChanged
from app.slo import outcomes
from app.slo.panes import Odd

pytestmark = pytest.mark.unit

AT = datetime(2026, 11, 28, 12, tzinfo=UTC)
ORDER = "0b6c2d0e-1f7a-5a58-9d1c-6f2b1a3c4d5e"


def said(
    status: str,
    reason: str = "",
    *,
    took_s: float | None = 1.0,
    held: bool = False,
) -> dict[str, bool]:
    """What an event says, by indicator."""
    body = OrderStatusChanged(
        order_id=ORDER,
        status=status,
        reason=reason,
        saga_version=3,
        created_at=None if took_s is None else AT - timedelta(seconds=took_s),
        held=held,
    )
    reading = outcomes.read(body, AT.timestamp(), threshold_s=2.0)
    return {one.sli: one.good for one in reading.measured}


def test_every_reason_of_the_domain_is_classified() -> None:
    """A new reason must be called one of the business or a technical one."""
    assert {*outcomes.BUSINESS, *outcomes.TECHNICAL} - {""} == set(REASONS)
    assert not {*outcomes.BUSINESS} & {*outcomes.TECHNICAL}


def test_the_outcomes_are_the_final_states_and_parked() -> None:
    """Nothing else ends an order's way, or stops it."""
    assert {*FINAL, State.PARKED} == outcomes.OUTCOMES


@pytest.mark.parametrize("status", [state for state in State if state not in outcomes.COUNTED])
def test_a_step_on_the_way_says_nothing(status: str) -> None:
    """And is passed over without an inbox row."""
    assert said(status) == {}


@pytest.mark.parametrize(
    ("status", "reason", "available"),
    [
        ("COMPLETED", "", True),
        *(("CANCELLED", reason, True) for reason in outcomes.BUSINESS if reason),
        ("REJECTED", "fraud", True),
        ("CANCELLED", "timeout", False),
        ("CANCELLED", "a reason nobody knows", False),
        ("PARKED", "", False),
        ("PARKED", "out_of_stock", False),
    ],
)
def test_a_technical_end_is_bad(status: str, reason: str, available: bool) -> None:
    """A reason that stands in no table is taken for a technical one."""
    assert said(status, reason)["availability"] is available


@pytest.mark.parametrize(
    ("took_s", "good"), [(0.0, True), (1.99, True), (2.0, True), (2.01, False)]
)
def test_a_completion_is_good_within_the_threshold(took_s: float, good: bool) -> None:
    """The threshold itself is good."""
    assert said("COMPLETED", took_s=took_s) == {
        "availability": True, "fraud": True, "completion": good
    }  # fmt: skip


def test_only_completed_orders_that_waited_for_nobody_have_a_latency() -> None:
    """A person's time is not the platform's; an unknown creation says nothing of latency."""
    assert "completion" not in said("CANCELLED", "out_of_stock")
    assert "completion" not in said("PARKED")
    assert said("COMPLETED", held=True) == {"availability": True}
    assert said("COMPLETED", took_s=None) == {"availability": True, "fraud": True}


def test_an_order_is_held_or_not_and_counted_once() -> None:
    """Bad when it is held, good when it ends without having been."""
    assert said("REVIEW", held=True) == {"fraud": False}
    assert said("REJECTED", "fraud", held=True) == {"availability": True}
    assert said("CANCELLED", "timeout") == {"availability": False, "fraud": True}
    assert said("PARKED") == {"availability": False}


def test_an_order_that_took_less_than_no_time_is_odd() -> None:
    """It is no measure of latency, and still an outcome."""
    body = OrderStatusChanged(
        order_id=ORDER, status="COMPLETED", saga_version=3, created_at=AT + timedelta(seconds=1)
    )
    reading = outcomes.read(body, AT.timestamp(), threshold_s=2.0)
    assert reading.odd == ("negative",)
    assert {one.sli for one in reading.measured} == {"availability", "fraud"}


@pytest.mark.parametrize(
    ("took_s", "odd"),
    [(0.0, None), (1e9, None), (-1e-6, "negative"), (math.nan, "not_a_number"),
     (math.inf, "not_a_number"), (-math.inf, "not_a_number")],
)  # fmt: skip
def test_odd_latencies(took_s: float, odd: Odd | None) -> None:
    """What no clock can have measured."""
    assert outcomes.odd_latency(took_s) == odd


@pytest.mark.parametrize(
    ("ce_time", "at_s"),
    [
        pytest.param(b"2026-11-28T12:00:00.000000Z", AT.timestamp(), id="ours"),
        pytest.param(b"2026-11-28T13:00:00+01:00", AT.timestamp(), id="another-zone"),
        pytest.param(None, 17.0, id="absent"),
        pytest.param(b"", 17.0, id="empty"),
        pytest.param(b"yesterday", 17.0, id="words"),
        pytest.param(b"\xff\xfe", 17.0, id="not-ascii"),
        pytest.param(b"2026-11-28T12:00:00", 17.0, id="no-zone"),
        pytest.param(b"0001-01-01T00:00:00+14:00", 17.0, id="before-time"),
        pytest.param(b"9999-12-31T23:59:59-14:00", 17.0, id="after-time"),
    ],
)
def test_when_an_event_happened(ce_time: bytes | None, at_s: float) -> None:
    """What its envelope says; else when the broker took it."""
    assert outcomes.time_of(ce_time, 17.0) == at_s
