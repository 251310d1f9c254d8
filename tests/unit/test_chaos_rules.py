"""Facts about chaos rules: what is in scope, who is struck, and that it is the same every time."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.control.hits import Hits
from chaos.control.rule import Rule, Scope, decode, draw, encode

pytestmark = pytest.mark.unit

AT = datetime(2026, 1, 1, tzinfo=UTC)
TOPIC = "payment.requested"


def rule(**changes: Any) -> Rule:
    """A rule that strikes everything."""
    return Rule(**{"id": "r1", "fault": "delay", "ttl_s": 60.0, "expires_at": AT, **changes})


def keys(count: int) -> list[bytes]:
    """Different keys."""
    return [f"order-{number}".encode() for number in range(count)]


def victims(hits: Hits, passing: list[bytes]) -> set[bytes]:
    """Those of `passing` that are struck."""
    return {key for key in passing if hits.strikes(TOPIC, key)}


def test_a_rule_survives_its_record() -> None:
    """What was published is what a worker reads, with the version of its place."""
    one = rule(scope=Scope(roles=("payment",), topic=TOPIC), p=0.3, params={"min_ms": 5})
    assert decode(encode(one), 7) == msgspec.structs.replace(one, version=7)


@pytest.mark.parametrize(
    "changes",
    [
        {"p": 0.0},
        {"p": 1.5},
        {"nth": -1},
        {"times": -1},
        {"share_max": 0.0},
        {"ttl_s": 0.0},
        {"id": ""},
        {"id": "-x"},
        {"id": "a b"},
        {"seed": -1},
        {"expires_at": datetime(2026, 1, 1)},  # noqa: DTZ001  # the fault under test
        {"reason": "x" * 201},
    ],
)
def test_an_impossible_value_is_no_rule(changes: dict[str, Any]) -> None:
    """Each bound is checked where a record is read."""
    with pytest.raises(msgspec.ValidationError):
        decode(encode(rule(**changes)), 1)


def test_the_same_seed_has_the_same_victims_in_any_order_and_any_worker() -> None:
    """The decision is of what passes, not of when or where."""
    passing = keys(2000)
    shuffled = list(passing)
    Random(1).shuffle(shuffled)
    one = rule(p=0.3, seed=5)
    assert victims(Hits(one), passing) == victims(Hits(one), shuffled)
    half, other = victims(Hits(one), passing[::2]), victims(Hits(one), passing[1::2])
    assert half | other == victims(Hits(one), passing)


def test_another_seed_or_another_rule_has_other_victims() -> None:
    """Two rules with one p do not strike the same ones."""
    passing = keys(2000)
    one = victims(Hits(rule(p=0.3, seed=5)), passing)
    for other in (rule(p=0.3, seed=6), rule(p=0.3, seed=5, id="r2")):
        common = len(one & victims(Hits(other), passing))
        assert 100 < common < 270  # 180 expected of independent choices


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_the_share_struck_is_the_probability(p: float) -> None:
    """Within four standard deviations of 20,000 passings."""
    count = 20_000
    struck = len(victims(Hits(rule(p=p)), keys(count)))
    assert abs(struck - p * count) < 4 * (count * p * (1 - p)) ** 0.5


def test_a_retry_is_decided_anew() -> None:
    """A key struck at the first attempt need not be at the second: it can get through."""
    hits = Hits(rule(p=0.5))
    outcomes = {tuple(hits.strikes(TOPIC, key, attempt) for attempt in (0, 1)) for key in keys(64)}
    assert len(outcomes) == 4


def test_what_shares_a_key_is_told_apart_by_its_event() -> None:
    """Two events of one order and topic have a luck each."""
    hits = Hits(rule(p=0.5))
    assert {hits.strikes(TOPIC, b"k", event=str(number)) for number in range(32)} == {True, False}


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_the_blast_radius_bounds_keys_over_topics_and_attempts(share: float) -> None:
    """However often keys pass, no more than the share of them is ever struck."""
    hits, count = Hits(rule(share_max=share)), 4000
    struck = {
        key
        for key in keys(count)
        for topic in (TOPIC, "payment.refund")
        for attempt in range(5)
        if hits.strikes(topic, key, attempt)
    }
    assert abs(len(struck) - share * count) < 4 * (count * share * (1 - share)) ** 0.5


def test_nth_strikes_one_passing_and_times_so_many() -> None:
    """Both count what is in scope in this worker."""
    nth = Hits(rule(nth=3))
    assert [nth.strikes(TOPIC, key) for key in keys(5)] == [False, False, True, False, False]
    times = Hits(rule(times=2))
    assert sum(times.strikes(TOPIC, key) for key in keys(5)) == 2
    aside = Hits(rule(nth=1, scope=Scope(topic=TOPIC)))
    assert not aside.strikes("order.created", b"k")
    assert aside.strikes(TOPIC, b"k")


@pytest.mark.parametrize(
    ("scope", "passing", "expected"),
    [
        (Scope(), {"topic": "a"}, True),
        (Scope(topic="a"), {"topic": "a"}, True),
        (Scope(topic="a"), {"topic": "b"}, False),
        (Scope(topic="a"), {"route": "/x"}, False),
        (Scope(step="payment"), {"topic": "payment.refund"}, True),
        (Scope(step="payment"), {"topic": "shipping.result"}, False),
        (Scope(type="t.v1"), {"topic": "a", "type": "t.v1"}, True),
        (Scope(type="t.v1"), {"topic": "a", "type": "u.v1"}, False),
        (Scope(route="/x"), {"route": "/x"}, True),
        (Scope(route="/x"), {"route": "/y"}, False),
        (Scope(point="p"), {"point": "p"}, True),
        (Scope(point="p"), {"point": "q"}, False),
    ],
)
def test_only_what_is_in_scope_is_struck(
    scope: Scope, passing: dict[str, Any], expected: bool
) -> None:
    """All that a scope names must hold."""
    assert Hits(rule(scope=scope)).strikes(key=b"k", **passing) is expected


def test_a_rule_past_its_lease_strikes_nothing() -> None:
    """Even where nobody takes the seam away."""
    now = [0.0]
    hits = Hits(rule(), ends_at_s=60.0, clock=lambda: now[0])
    assert hits.strikes(TOPIC, b"k")
    now[0] = 60.0
    assert not hits.strikes(TOPIC, b"k")
    ended = Hits(rule())
    ended.end()
    assert not ended.strikes(TOPIC, b"k")


def test_hits_are_told_once_by_place() -> None:
    """`take` empties what `struck` keeps."""
    hits = Hits(rule())
    hits.strikes(TOPIC, b"a")
    hits.strikes(TOPIC, b"b", place="consume")
    hits.hit("cpu")
    assert hits.take() == {TOPIC: 1, "consume": 1, "cpu": 1}
    assert hits.take() == {}
    assert hits.struck == 3


def test_a_worker_is_a_target_by_role_and_name() -> None:
    """Empty lists target all; both must hold."""
    assert Scope().targets("payment", "payment-1")
    assert Scope(roles=("payment",)).targets("payment", "payment-2")
    assert not Scope(roles=("payment",)).targets("web", "web-1")
    assert not Scope(roles=("payment",), workers=("payment-1",)).targets("payment", "payment-2")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Scope(), Scope(topic="a"), True),
        (Scope(topic="a"), Scope(topic="b"), False),
        (Scope(step="payment"), Scope(topic="payment.result"), True),
        (Scope(step="payment"), Scope(step="shipping"), False),
        (Scope(step="inventory"), Scope(step="commit"), True),
        (Scope(roles=("web",)), Scope(roles=("relay",)), False),
        (Scope(workers=("a",)), Scope(workers=("a", "b")), True),
        (Scope(route="/x"), Scope(route="/y"), False),
    ],
)
def test_overlap_of_scopes(one: Scope, other: Scope, expected: bool) -> None:
    """It is the same both ways."""
    assert one.overlaps(other) is expected
    assert other.overlaps(one) is expected


@given(st.integers(0, 2**53), st.text(max_size=20), st.binary(max_size=40), st.integers(0, 9999))
def test_luck_is_a_number_in_the_unit_interval(
    seed: int, rule_id: str, key: bytes, attempt: int
) -> None:
    """Whatever passes."""
    for luck in draw(seed, rule_id, TOPIC, key, attempt):
        assert 0.0 <= luck < 1.0
