"""The alert exam's marking: what each course of events is worth, and what stays unknown."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.observe.exam import (
    NOTHING_ASKED,
    Expected,
    Fault,
    Firing,
    Observation,
    Sheet,
    Span,
    firings,
    gaps,
    judge,
)

pytestmark = pytest.mark.unit

FAULT = Fault("slow gateway", 10.0, 25.0, True)
BURN = Expected(name="SloBurnFast", within_s=20.0, resolves_within_s=30.0)
SHEET = Sheet((BURN,), frozenset({"ConsumerLag"}))
WHOLE = Span(0.0, 90.0)


def fired(from_s: float, until_s: float | None, name: str = "SloBurnFast") -> Firing:
    """One firing."""
    return Firing(name, from_s, until_s, "page")


@pytest.mark.parametrize(
    ("seen", "answer", "detection_s", "ending", "result", "score"),
    [
        pytest.param((fired(18, 40),), "in time", 8.0, "in time", "passed", 1.0, id="right"),
        pytest.param((fired(30, 55),), "in time", 20.0, "in time", "passed", 1.0, id="just"),
        pytest.param((fired(30.1, 55.1),), "late", 20.1, "late", "failed", 0.0, id="late-and-late"),
        pytest.param((fired(18, 70),), "in time", 8.0, "late", "failed", 0.5, id="stops-late"),
        pytest.param((fired(18, None),), "in time", 8.0, "still firing", "failed", 0.5, id="never"),
        pytest.param((), "missing", None, "not asked", "failed", 0.0, id="missing"),
        pytest.param((fired(5, 40),), "before", None, "in time", "failed", 0.5, id="before"),
        pytest.param((fired(2, 6), fired(18, 40)), "in time", 8.0, "in time", "passed", 1.0,
                     id="an-old-firing-is-over"),
        pytest.param((fired(18, 22), fired(30, 60)), "in time", 8.0, "late", "failed", 0.5,
                     id="the-last-end-counts"),
        pytest.param((fired(18, 40), fired(20, 30, "ConsumerLag")), "in time", 8.0, "in time",
                     "passed", 1.0, id="tolerated"),
    ],
)  # fmt: skip
def test_what_one_alert_is_worth(
    seen: tuple[Firing, ...],
    answer: str,
    detection_s: float | None,
    ending: str,
    result: str,
    score: float,
) -> None:
    """Fired, late, missing, before, never resolved: answer, times, result and score."""
    marks = judge(SHEET, [FAULT], Observation(seen, WHOLE))
    (row,) = marks.rows
    assert (row.answer, row.detection_s, row.ending) == (answer, detection_s, ending)
    assert (marks.result, marks.score) == (result, score)
    assert bool(marks.reasons) == (result != "passed")


@pytest.mark.parametrize(
    ("sheet", "faults", "observation", "told"),
    [
        pytest.param(SHEET, [FAULT._replace(proved=False)], Observation((), WHOLE),
                     "slow gateway was not proved", id="fault-not-proved"),
        pytest.param(SHEET, [], Observation((), WHOLE), "was not proved", id="no-fault"),
        pytest.param(SHEET, [FAULT], Observation((), WHOLE, (Span(20, 28),)),
                     "nothing was seen from 20 to 28 s", id="away-when-it-mattered"),
        pytest.param(SHEET, [FAULT], Observation((fired(28, 40),), WHOLE, (Span(12, 28),)),
                     "just before it was seen firing", id="may-have-fired-in-the-gap"),
        pytest.param(SHEET, [FAULT], Observation((fired(18, 40),), WHOLE, (Span(40, 80),)),
                     "when it stopped", id="may-have-stopped-in-the-gap"),
        pytest.param(SHEET, [FAULT], Observation((), Span(0, 22)),
                     "nothing was seen from 22 to 30 s", id="not-watched-long-enough"),
        pytest.param(SHEET, [FAULT], Observation((fired(18, None),), Span(0, 50)),
                     "watched until 50 s only", id="end-not-awaited"),
        pytest.param(SHEET, [FAULT], Observation((fired(18, 40),), WHOLE, (Span(60, 70),)),
                     "what fired from 60 to 70 s was not seen", id="silence-not-heard"),
    ],
)  # fmt: skip
def test_what_was_not_seen_is_unknown(
    sheet: Sheet, faults: list[Fault], observation: Observation, told: str
) -> None:
    """Neither passed nor failed, with the reason, and no score out of nothing."""
    marks = judge(sheet, faults, observation)
    assert marks.result == "unknown"
    assert told in "; ".join(marks.reasons)
    assert marks.score in (None, 1.0)


def test_a_wrong_alert_is_a_wrong_answer() -> None:
    """What nobody expected lowers the score; the first firing after the fault counts."""
    seen = (fired(18, 40), fired(19, 20, "SagaStuck"), fired(30, None, "SagaStuck"))
    marks = judge(SHEET, [FAULT], Observation(seen, WHOLE))
    (wrong,) = marks.wrong
    assert (wrong.name, wrong.from_s, wrong.forbidden) == ("SagaStuck", 19, False)
    assert marks.result == "failed"
    assert marks.score == pytest.approx(2 / 3)
    assert marks.reasons == ("SagaStuck fired, and nobody expected it",)


def test_what_asks_nothing_is_not_passed() -> None:
    """No question, no right answer: only a wrong alert changes that."""
    sheet = Sheet((), frozenset({"ConsumerLag"}))
    for seen in (Observation((), WHOLE), Observation((), WHOLE, (Span(20, 28),))):
        marks = judge(sheet, [FAULT], seen)
        assert (marks.result, marks.score, marks.reasons) == (
            "nothing asked",
            None,
            (NOTHING_ASKED,),
        )
    marks = judge(sheet, [FAULT], Observation((fired(18, 40),), WHOLE))
    assert (marks.result, marks.score) == ("failed", 0.0)


@pytest.mark.parametrize(
    ("faults", "seen", "told"),
    [
        ([FAULT], Observation((fired(5, 40),), WHOLE), "it was firing before the fault began"),
        ([FAULT], Observation((), WHOLE, (Span(20, 28),)), "from 20 to 28 s was not seen"),
        ([FAULT._replace(proved=False)], Observation((), WHOLE), "no fault was proved"),
        ([], Observation((), WHOLE), "no fault was proved"),
    ],
    ids=["standing", "gap", "not-proved", "no-fault"],
)
def test_silence_that_says_nothing_is_unknown(
    faults: list[Fault], seen: Observation, told: str
) -> None:
    """An alert is silent when it could be heard, and something was broken."""
    marks = judge(Sheet((), frozenset(), ("SloBurnFast",)), faults, seen)
    assert [one.answer for one in marks.silent] == ["unknown"]
    assert (marks.result, marks.score) == ("unknown", None)
    assert told in "; ".join(marks.reasons)


def test_what_must_stay_silent_is_named_as_such() -> None:
    """An alert of the list `silent` that fires is wrong, and said to be forbidden."""
    sheet = Sheet((), frozenset(), ("DeadLettersGrow",))
    marks = judge(sheet, [FAULT], Observation((), WHOLE))
    assert (marks.result, marks.score, marks.silent[0].answer) == ("passed", 1.0, "silent")
    marks = judge(sheet, [FAULT], Observation((fired(12, 14, "DeadLettersGrow"),), WHOLE))
    assert marks.wrong[0].forbidden
    assert marks.silent[0].answer == "fired"
    assert marks.score == 0.0


def test_what_fired_before_anything_was_broken_is_told_and_not_counted() -> None:
    """A lab that was not quiet: the standing alert is no answer to this fault."""
    seen = (fired(2, 50, "SagaOld"), fired(18, 40))
    marks = judge(SHEET, [FAULT], Observation(seen, WHOLE))
    assert (marks.result, marks.standing, marks.wrong) == ("passed", ("SagaOld",), ())


def test_an_alert_may_be_asked_of_a_later_fault() -> None:
    """`fault` names the activity; times count from that one."""
    second = Fault("kill", 40.0, 40.0, True)
    asked = Expected(name="WorkerDown", within_s=5.0, fault="kill")
    marks = judge(
        Sheet((asked,)), [FAULT, second], Observation((fired(43, 46, "WorkerDown"),), WHOLE)
    )
    assert (marks.rows[0].fault, marks.rows[0].detection_s) == ("kill", 3.0)
    assert marks.rows[0].ending == "not asked"


def test_one_alert_may_be_asked_of_two_faults() -> None:
    """Each firing answers the fault before it; the second's end is not the first's."""
    faults = [Fault("one", 10.0, 11.0, True), Fault("two", 40.0, 41.0, True)]
    asked = [
        Expected(name="WorkerDown", within_s=5.0, resolves_within_s=9.0, fault=fault.name)
        for fault in faults
    ]
    seen = (fired(12, 15, "WorkerDown"), fired(44, 49, "WorkerDown"))
    marks = judge(Sheet(tuple(asked)), faults, Observation(seen, WHOLE))
    assert [(one.detection_s, one.resolved_after_s) for one in marks.rows] == [(2, 4), (4, 8)]
    assert marks.result == "passed"
    marks = judge(Sheet(tuple(asked)), faults, Observation(seen[1:], WHOLE))
    assert [one.answer for one in marks.rows] == ["missing", "in time"]


@given(
    st.lists(st.tuples(st.integers(0, 80), st.integers(1, 20)), max_size=6),
    st.lists(st.tuples(st.integers(0, 80), st.integers(4, 20)), max_size=3),
    st.booleans(),
)
def test_marks_are_never_better_than_what_was_seen(
    fires: list[tuple[int, int]], unseen: list[tuple[int, int]], proved: bool
) -> None:
    """Passed needs a proved fault, a seen firing in time, and nothing unseen after the fault."""
    seen = Observation(
        tuple(fired(at, at + took) for at, took in fires),
        WHOLE,
        tuple(Span(at, min(90, at + took)) for at, took in unseen),
    )
    marks = judge(SHEET, [FAULT._replace(proved=proved)], seen)
    if marks.result == "passed":
        assert proved
        assert any(10 <= at <= 30 for at, _ in fires)
        assert all(at + took <= 10 for at, took in unseen)
    assert marks.score is None or 0 <= marks.score <= 1


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 30)), max_size=8))
def test_firings_cover_exactly_the_moments_seen(spans: list[tuple[int, int]]) -> None:
    """Every moment lies in a firing, firings do not overlap, and between two there is a pause."""
    moments = sorted({at + more for at, took in spans for more in range(took)})
    found = firings({("A", "page"): moments}, step_s=1.0, until_s=200.0)
    for at in moments:
        assert sum(one.from_s <= at < (one.until_s or 0) for one in found) == 1
    for one, other in pairwise(found):
        assert one.until_s is not None
        assert other.from_s > one.until_s


def test_what_fires_at_the_end_goes_on() -> None:
    """The last moment is close to the end of the observation: nobody knows when it stops."""
    (one,) = firings({("A", "page"): [5.0, 6.0, 7.0]}, step_s=1.0, until_s=8.0)
    assert (one.from_s, one.until_s) == (5.0, None)


def test_gaps_are_where_nothing_was_seen() -> None:
    """A late look is no gap; the beginning and the end count as well."""
    assert gaps([float(at) for at in range(61)], step_s=1.0, span=Span(0, 60)) == ()
    assert gaps([], step_s=1.0, span=Span(0, 60)) == (Span(0, 60),)
    seen = [1.0, 2.0, 4.0, 12.0, 13.0]
    assert gaps(seen, step_s=1.0, span=Span(0, 20)) == (Span(4.0, 12.0), Span(13.0, 20))
