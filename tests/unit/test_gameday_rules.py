"""The pure rules of a GameDay: its verdict and its guard, over every combination that matters."""

from __future__ import annotations

import itertools

import pytest

from chaos.gameday.audit import only_known
from chaos.gameday.guard import Evaluation, Limits, Reading, State, evaluate, following
from chaos.gameday.verdict import EXIT_CODES, WORDS, FaultFound, Findings, judge

pytestmark = pytest.mark.unit

PROVED = FaultFound("kill", "proved")
GOOD = Findings(
    steady_before=True,
    steady_after=True,
    faults=(PROVED,),
    audit="holds",
    accepted=100,
    orders_min=50,
)


@pytest.mark.parametrize(
    ("change", "word", "reason"),
    [
        ({}, "passed", ""),
        ({"audit": "violated", "audit_detail": "P1 x2"}, "failed", "P1 x2"),
        ({"audit": "violated", "audit_known": True}, "inconclusive", "fresh lab"),
        ({"audit": "violated", "audit_known": True, "aborted": "x"}, "aborted", "x"),
        ({"left": ("kill-1",)}, "failed", "left behind: kill-1"),
        ({"steady_after": False}, "failed", "did not come back"),
        ({"broken": "no orders"}, "inconclusive", "no orders"),
        ({"steady_before": False, "steady_after": None}, "inconclusive", "not steady before"),
        ({"steady_before": None}, "inconclusive", "not looked at"),
        ({"steady_after": None}, "inconclusive", "not looked at"),
        ({"aborted": "guard: x"}, "aborted", "guard: x"),
        ({"aborted": "guard: x", "steady_after": None}, "aborted", "guard: x"),
        ({"aborted": "guard: x", "steady_after": False}, "failed", "did not come back"),
        ({"faults": ()}, "inconclusive", "nothing was broken"),
        ({"audit": ""}, "inconclusive", "there was none"),
        ({"audit": "unknown", "audit_detail": "no rest"}, "inconclusive", "no rest"),
        ({"accepted": 49}, "inconclusive", "only 49"),
        ({"accepted": 50}, "passed", ""),
        ({"exam": "passed"}, "passed", ""),
        ({"exam": "failed", "exam_detail": "X is late"}, "failed", "exam was failed: X is late"),
        ({"exam": "unknown", "exam_detail": "not sat"}, "inconclusive", "no result: not sat"),
        ({"exam": "nothing asked", "exam_detail": "x"}, "inconclusive", "no result: x"),
        ({"exam": "failed", "aborted": "guard: x"}, "aborted", "guard: x"),
        ({"exam": "failed", "faults": ()}, "inconclusive", "nothing was broken"),
    ],
)
def test_one_finding_decides(change: dict[str, object], word: str, reason: str) -> None:
    """Each finding alone has its verdict and is named as its reason."""
    found = judge(GOOD._replace(**change))  # type: ignore[arg-type]
    assert found.word == word
    assert reason in "; ".join(found.reasons)


@pytest.mark.parametrize(
    "outcome", ["void", "skipped", "refused", "called off", "ended by its lease"]
)
def test_a_fault_without_proof_proves_nothing(outcome: str) -> None:
    """One fault that was not proved is a doubt, however many others were."""
    found = judge(GOOD._replace(faults=(PROVED, FaultFound("net", outcome, "why"))))
    assert found.word == "inconclusive"
    assert found.reasons == (f"net is {outcome}: why",)


#: The order of the table in the module: whichever of two applies first decides.
RANKED: list[tuple[dict[str, object], str]] = [
    ({"audit": "violated"}, "failed"),
    ({"left": ("x",)}, "failed"),
    ({"broken": "x"}, "inconclusive"),
    ({"steady_before": False}, "inconclusive"),
    ({"steady_after": False}, "failed"),
    ({"aborted": "x"}, "aborted"),
    ({"faults": ()}, "inconclusive"),
    ({"accepted": 0}, "inconclusive"),
]


@pytest.mark.parametrize(("first", "second"), [*itertools.combinations(range(len(RANKED)), 2)])
def test_the_first_rule_that_applies_decides(first: int, second: int) -> None:
    """Of any two findings the one that stands higher in the table decides."""
    change = {**RANKED[second][0], **RANKED[first][0]}
    assert judge(GOOD._replace(**change)).word == RANKED[first][1]  # type: ignore[arg-type]


def test_only_a_flawless_run_passes() -> None:
    """Over all combinations of findings, exactly one passes, and each has a known word."""
    axes = {
        "steady_before": (True, False, None),
        "steady_after": (True, False, None),
        "faults": ((PROVED,), (), (FaultFound("a", "void"),)),
        "aborted": ("", "x"),
        "broken": ("", "x"),
        "left": ((), ("x",)),
        "audit": ("holds", "violated", "unknown", ""),
        "accepted": (100, 1),
    }
    passed = []
    for values in itertools.product(*axes.values()):
        found = judge(GOOD._replace(**dict(zip(axes, values, strict=True))))
        assert found.word in WORDS
        assert bool(found.reasons) is (found.word != "passed")
        if found.word == "passed":
            passed.append(values)
    assert len(passed) == 1


@pytest.mark.parametrize(
    ("found", "known", "wanted"),
    [
        ({}, {}, False),
        ({}, {"E1": 1}, False),
        ({"E1": 1}, {}, False),
        ({"E1": 1}, {"E1": 1}, True),
        ({"E1": 2}, {"E1": 1}, False),
        ({"E1": 1, "P1": 1}, {"E1": 1}, False),
        ({"E1": 1}, {"E1": 2, "P1": 1}, True),
    ],
)
def test_only_what_stood_there_before_is_known(
    found: dict[str, int], known: dict[str, int], wanted: bool
) -> None:
    """One violation more, or of another invariant, is this GameDay's."""
    audit = {
        "invariants": [{"id": name, "violations": n} for name, n in (found | {"X1": 0}).items()]
    }
    assert only_known(audit, known) is wanted


def test_each_verdict_has_its_exit_code() -> None:
    """0 passed, 1 failed, 2 inconclusive, 3 aborted."""
    assert EXIT_CODES == {"passed": 0, "failed": 1, "inconclusive": 2, "aborted": 3}


LIMITS = Limits(
    error_ratio_max=0.1, accept_p95_ms_max=500, backlog_max=10, stuck_max=0, bad_max=3, blind_max=2
)
FINE = Reading(0.1, 500.0, 10, 0)
BAD = Reading(0.2, 500.0, 10, 0)
BLIND = Reading()


@pytest.mark.parametrize(
    ("reading", "words"),
    [
        (FINE, []),
        (BAD, ["error ratio"]),
        (FINE._replace(accept_p95_ms=501.0), ["p95"]),
        (FINE._replace(backlog=11), ["backlog"]),
        (FINE._replace(stuck=1), ["stuck"]),
        (Reading(1.0, 501.0, 11, 1), ["error ratio", "p95", "backlog", "stuck"]),
        (Reading(None, None, 11, None), ["backlog"]),
    ],
)
def test_what_is_over_its_limit_is_named(reading: Reading, words: list[str]) -> None:
    """A limit itself is still good; every figure over its own is named."""
    found = evaluate(LIMITS, reading)
    assert [word for word in words if not any(word in bad for bad in found.bad)] == []
    assert len(found.bad) == len(words)
    assert not found.blind


def test_without_a_limit_nothing_is_too_much() -> None:
    """None means whatever."""
    free = Limits(error_ratio_max=None, accept_p95_ms_max=None)
    assert evaluate(free, Reading(1.0, 1e9, 10**6, 10**6)) == Evaluation((), False)


def after(*readings: Reading) -> State:
    """The guard's memory after these."""
    state = State()
    for one in readings:
        state = following(state, LIMITS, evaluate(LIMITS, one), one)
    return state


@pytest.mark.parametrize(
    ("readings", "aborts"),
    [
        ([BAD, BAD], False),
        ([BAD, BAD, BAD], True),
        ([BAD, BAD, FINE, BAD, BAD], False),
        ([BAD, BAD, BLIND, BAD], True),
        ([BAD, BAD, FINE._replace(backlog=None), BAD], True),
        ([BLIND], False),
        ([BLIND, BLIND], True),
        ([BLIND, FINE, BLIND], False),
        ([BAD, BAD, BAD, FINE, FINE], True),
    ],
)
def test_only_a_streak_aborts(readings: list[Reading], aborts: bool) -> None:
    """What is not known neither ends nor makes a streak; a good look ends it; an abort stays."""
    assert bool(after(*readings).abort) is aborts


def test_every_short_history_aborts_exactly_when_it_holds_a_streak() -> None:
    """All histories of six looks, good or bad, against a plain count."""
    for history in itertools.product((FINE, BAD), repeat=6):
        streaks = [len(list(run)) for bad, run in itertools.groupby(history) if bad == BAD]
        assert bool(after(*history).abort) is (max(streaks, default=0) >= LIMITS.bad_max)
