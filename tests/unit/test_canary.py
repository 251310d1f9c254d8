"""The canary's pure rules: who goes to it, what its figures say, what follows from them."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from uuid import UUID, uuid5

import pytest

from app.control.canary import KEY, CanaryConfig, Split, encode
from app.domain.canary import (
    ArmFigures,
    Decision,
    Judgement,
    Margins,
    Verdict,
    decide,
    goes_to_canary,
    judge,
    place,
    wilson_lower,
)
from app.errors import GatewayTimeout
from app.messages.deadletter import REDRIVES, dead_letter, pass_on, read_failure, redrive, retry
from tests.unit.test_messages import NOW, Record, as_record

pytestmark = pytest.mark.unit

NAMESPACE = UUID("7d1c9a52-5f0e-4d5c-9f57-0a4d9c1c2b11")
ORDERS = [str(uuid5(NAMESPACE, str(number))) for number in range(20_000)]
MARGINS = Margins(
    samples_min=20, error_margin=0.02, decline_margin=0.05, p95_factor=2, p95_margin_ms=300
)
GOOD = ArmFigures(attempts=100, ok=90, declined=10, p50_ms=20, p95_ms=50)


@pytest.mark.parametrize("percent", [1, 5, 30, 50, 99])
def test_the_share_is_the_percentage(percent: float) -> None:
    """Of 20,000 orders the share is within 4 standard deviations."""
    hits = sum(goes_to_canary(one, percent) for one in ORDERS)
    share = percent / 100
    deviation = (len(ORDERS) * share * (1 - share)) ** 0.5
    assert abs(hits - len(ORDERS) * share) < 4 * deviation


def test_nobody_at_0_and_everybody_at_100() -> None:
    """The ends have no exception."""
    assert not any(goes_to_canary(one, 0) for one in ORDERS)
    assert all(goes_to_canary(one, 100) for one in ORDERS)


def test_a_growing_percentage_only_adds_orders() -> None:
    """Whoever was in stays in; a shrinking one only takes away."""
    before: set[str] = set()
    for percent in (0, 0.5, 5, 5.5, 30, 80, 100):
        now = {one for one in ORDERS[:2000] if goes_to_canary(one, percent)}
        assert before <= now
        before = now


def test_an_order_keeps_its_place() -> None:
    """The place is of the id alone, in every process and release: sagas outlive both."""
    assert place("01890a5d-ac96-774b-bcce-b302099a8057") == pytest.approx(8.0602071)
    assert all(0 <= place(one) < 100 for one in ORDERS[:1000])


@pytest.mark.parametrize(
    ("hits", "total", "bound"), [(0, 0, 0.0), (0, 50, 0.0), (10, 20, 0.299), (50, 50, 0.929)]
)
def test_wilson_s_lower_bound(hits: int, total: int, bound: float) -> None:
    """Against published values; never below 0."""
    assert wilson_lower(hits, total) == pytest.approx(bound, abs=0.001)


@pytest.mark.parametrize(
    ("stable", "canary", "verdict", "said"),
    [
        (GOOD, GOOD, Verdict.HEALTHY, "no worse"),
        (GOOD, ArmFigures(), Verdict.INSUFFICIENT, "canary has 0 charges of 20"),
        (ArmFigures(), ArmFigures(), Verdict.INSUFFICIENT, "stable has 0"),
        (GOOD, GOOD._replace(attempts=19, retrying=19), Verdict.INSUFFICIENT, "19 charges"),
        (GOOD._replace(attempts=19), GOOD._replace(parked=50), Verdict.INSUFFICIENT, "stable has"),
        (GOOD, GOOD._replace(retrying=20), Verdict.BREACHED, "20 of 100 charges failed"),
        (GOOD, GOOD._replace(retried=20), Verdict.BREACHED, "20 of 100 charges failed"),
        (GOOD, GOOD._replace(parked=20), Verdict.BREACHED, "20 of 100 charges failed"),
        (GOOD, GOOD._replace(parked=3), Verdict.HEALTHY, "no worse"),
        (GOOD._replace(retried=20), GOOD._replace(retried=20), Verdict.HEALTHY, "no worse"),
        (GOOD, GOOD._replace(ok=60, declined=40), Verdict.BREACHED, "40 of 100 answers"),
        (GOOD, GOOD._replace(ok=85, declined=15), Verdict.HEALTHY, "no worse"),
        (GOOD, GOOD._replace(p95_ms=400), Verdict.HEALTHY, "no worse"),
        (GOOD, GOOD._replace(p95_ms=401), Verdict.BREACHED, "p95 401 ms"),
        (GOOD, GOOD._replace(p95_ms=None), Verdict.HEALTHY, "no worse"),
        (GOOD, GOOD._replace(ok=0, declined=0, pending=100, p95_ms=9000), Verdict.BREACHED, "p95"),
    ],
)
def test_a_comparison(stable: ArmFigures, canary: ArmFigures, verdict: Verdict, said: str) -> None:
    """Each margin on both sides of its bound; too few samples are never good news."""
    found = judge(stable, canary, MARGINS)
    assert found.verdict is verdict
    assert said in "; ".join(found.reasons)


def test_every_breach_is_named() -> None:
    """Three things wrong are three reasons."""
    bad = GOOD._replace(parked=30, ok=40, declined=40, p95_ms=5000)
    found: Judgement = judge(GOOD, bad, MARGINS)
    assert len(found.reasons) == 3


def test_every_run_of_windows() -> None:
    """All sequences of up to four windows against the rule said in other words."""
    for length in range(5):
        for verdicts in product(Verdict, repeat=length):
            decision = decide(verdicts, rollback_windows=2, promote_windows=3)
            text = "".join(one.name[0] for one in verdicts)
            wanted = (
                Decision.ROLL_BACK if text.startswith("BB")
                else Decision.PROMOTE if text.startswith("HHH")
                else Decision.WAIT
            )  # fmt: skip
            assert decision is wanted, text


CONFIG = CanaryConfig(percent=30, auto=True, by="ada", since=datetime(2026, 1, 1, tzinfo=UTC))


def test_a_split_follows_its_topic() -> None:
    """None before anything was set; a deletion is 0; what cannot be read changes nothing."""
    split = Split()
    assert (split.config, split.percent) == (None, 0.0)
    assert split.apply(KEY, encode(CONFIG), 1) == ""
    assert (split.percent, split.version) == (30, 1)
    for bad in (b"{", b"{}", b'{"percent": 101}', encode({"percent": 1})):
        assert "cannot be read" in split.apply(KEY, bad, 2)
    assert "unknown key" in split.apply("canary.shipping", encode(CONFIG), 3)
    assert (split.percent, split.version) == (30, 1)
    wanted = [one for one in ORDERS[:500] if split.is_canary(one)]
    assert wanted == [one for one in ORDERS[:500] if goes_to_canary(one, 30)]
    assert split.apply(KEY, None, 4) == ""
    assert split.percent == 0.0
    assert not any(split.is_canary(one) for one in wanted)


COMMAND = Record(
    "payment.requested.canary", 2, 41, 0, b"order", b'{"not_after":"2020-01-01T00:00:00Z"}',
    [("ce_id", b"command")],
)  # fmt: skip


def waiting() -> Record:
    """The command on a retry tier, after the canary's first try."""
    moved = retry(
        COMMAND, tier="retry.1s", role="payment-canary", error=GatewayTimeout(), attempt=1,
        due_at=NOW, now=NOW,
    )  # fmt: skip
    return as_record(moved)


def dead() -> Record:
    """The command as a dead letter of the canary."""
    letter = dead_letter(
        COMMAND, topic="payment.requested.canary.dlt", role="payment-canary",
        error=GatewayTimeout(), attempt=4, now=NOW,
    )  # fmt: skip
    return as_record(letter)


def test_a_command_that_is_passed_on_leaves_its_failures_behind() -> None:
    """Key, partition, id and body are the same; tries are not, re-drives are."""
    there = pass_on(waiting(), "payment.requested")
    failure = read_failure(there.headers)
    assert (there.topic, there.key, there.value) == ("payment.requested", b"order", COMMAND.value)
    assert there.partition == COMMAND.partition
    assert (failure.retry_role, failure.attempt, failure.original_topic) == ("", 0, "")
    assert dict(there.headers) == {"ce_id": b"command"}
    again = pass_on(as_record(redrive(dead())), "payment.requested")
    assert dict(again.headers)[REDRIVES] == b"1"


def test_a_dead_letter_of_the_canary_is_left_to_the_stable_arm() -> None:
    """A redrive goes to the stable topic, free of what the canary noted, and counts as one."""
    back = redrive(dead(), not_after=NOW)
    failure = read_failure(back.headers)
    assert back.topic == "payment.requested"
    assert back.value == b'{"not_after":"2026-01-02T03:04:05.678901Z"}'
    assert (failure.retry_role, failure.redrives, failure.original_topic) == ("", 1, "")
