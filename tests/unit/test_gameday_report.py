"""The report of a GameDay, made from a journal: charts, page, Markdown, JUnit, comparison."""

from __future__ import annotations

import copy
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from chaos.gameday import catalogue
from chaos.gameday.report import facts
from chaos.gameday.report.charts import POINTS_MAX, charts, nice, thinned, timeline
from chaos.gameday.report.comparison import differs, rows
from chaos.gameday.report.junit import junit
from chaos.gameday.report.markdown import markdown
from chaos.gameday.report.page import page

pytestmark = pytest.mark.unit
EVIL = "<script>alert(1)</script> & | \x07"


def sample(at_s: float, **changes: Any) -> dict[str, Any]:
    """One look of the guard."""
    return {
        "at_s": at_s,
        "phase": "method" if at_s >= 8 else "warm-up",
        "sent": int(20 * at_s),
        "sent_per_s": 20.0,
        "accepted_per_s": 20.0,
        "refused_per_s": 0.0,
        "p50_ms": 10.0,
        "p95_ms": 30.0,
        "backlog": 5,
        "stuck": 0,
        "error_ratio": 0.0,
        "window_p95_ms": 30.0,
        "faults": [],
        "guarding": at_s >= 8,
        "bad": [],
        "bad_in_a_row": 0,
        **changes,
    }


def journal(**changes: Any) -> dict[str, Any]:
    """A journal as a run leaves it, with some of ours changed."""
    experiment = copy.deepcopy(catalogue.shipped("kill-payment").data)
    probes = experiment["steady-state-hypothesis"]["probes"]
    met = {
        "steady_state_met": True,
        "probes": [{"activity": one, "output": 1, "tolerance_met": True} for one in probes],
    }
    fault = {
        "name": "kill it",
        "fault": "kill",
        "target": "payment-1",
        "outcome": "proved",
        "detail": "pid 1 is gone",
        "began_s": 12.0,
        "ended_s": 12.0,
        "recovered_s": 2.5,
        "after_failed": "",
        "expired": False,
    }
    ours = {
        "run_id": "11111111-2222",
        "experiment": "kill-payment",
        "scenario": "s",
        "hypothesis": "h",
        "verdict": "passed",
        "reasons": [],
        "expected": "passed",
        "as_expected": True,
        "digest": "abc",
        "knobs": {"rate_per_s": 20.0, "seed": 1},
        "guard": {"bad_max": 10, "accept_p95_ms_max": 25.0, "backlog_max": None},
        "began": "2026-11-28T12:00:00+00:00",
        "phases": [
            {"name": "warm-up", "began_s": 0.0, "ended_s": 8.0},
            {"name": "method", "began_s": 8.0, "ended_s": None},
        ],
        "faults": [fault],
        "samples": [sample(at) for at in range(1, 30)],
        "load": {"sent": 600, "accepted": 598, "orders_min": 200},
        "audit": {"result": "holds", "sentence": "HOLDS: 598 orders"},
        "repeat": "symphony gameday run kill-payment --seed 1",
        **changes,
    }
    return {
        "experiment": experiment,
        "steady_states": {"before": met, "after": copy.deepcopy(met), "during": []},
        "x-symphony": ours,
    }


def ours_of(document: dict[str, Any]) -> dict[str, Any]:
    """Our part, to be changed."""
    found: dict[str, Any] = document["x-symphony"]
    return found


def test_each_chart_is_well_formed_and_shows_what_it_should() -> None:
    """Three charts of valid XML, with a band for the fault, the limit, marks for bad looks."""
    document = journal()
    ours = ours_of(document)
    ours["samples"][20] |= {"bad": ["p95 is over"], "backlog": None}
    found = charts(ours)
    assert len(found) == 3
    for one in found:
        root = ElementTree.fromstring(one)
        kinds = [part.get("class", "") for part in root.iter()]
        assert kinds.count("fault") == 1
        assert kinds.count("mark") == 1
    latency, backlog = found[1], found[2]
    assert 'class="limit"' in latency
    line = re.search(r'class="line a" d="([^"]+)"/>', backlog)
    assert line is not None
    assert line[1].count("M") == 2, "an unknown figure breaks the line"


def test_a_run_that_saw_nothing_has_no_chart_and_a_page() -> None:
    """It ended before anything was measured: everything is still rendered."""
    document = journal(samples=[], faults=[], phases=[], audit={}, verdict="inconclusive",
                       reasons=["the lab is gone"], as_expected=False)  # fmt: skip
    document["steady_states"] = {"before": None, "after": None, "during": []}
    assert charts(ours_of(document)) == []
    assert "the lab is gone (expected: passed)" in page(document)
    assert "INCONCLUSIVE" in markdown(document)
    assert 'message="there was no audit"' in junit(document)


@pytest.mark.parametrize(
    ("seen", "told"),
    [(True, "it came back"), (False, "it did not"), (None, "it was not looked at")],
)
def test_the_last_look_at_the_steady_state_is_told(seen: bool | None, told: str) -> None:
    """The verdict rests on it, so a reader finds it; an old journal says nothing."""
    for made in (page, markdown):
        assert f"After the rollback: {told}" in made(journal(steady_after_rollback=seen))
        assert "After the rollback" not in made(journal())


def test_a_verdict_says_whether_it_is_the_expected_one() -> None:
    """Whoever reads `aborted` learns that it was to be; of a passed one it goes without saying."""
    aborted = {"verdict": "aborted", "reasons": ["guard: x"], "expected": "aborted"}
    assert facts.sentence(journal(**aborted)) == "ABORTED: guard: x (as expected)"
    assert facts.sentence(journal()) == "PASSED"


def test_what_came_after_the_last_phase_is_told() -> None:
    """Each part and the sum; a part that is not known is left out, and an old journal has none."""
    assert facts.ending_sentence(journal()) == ""
    document = journal(settle_s=3.26, audit_s=4.0, report_s=0.31)
    assert facts.ending_sentence(document) == "settle 3.3 s, audit 4.0 s, report 0.3 s: 7.6 s"
    for made in (page, markdown):
        assert facts.ending_sentence(document) in made(document)
    assert facts.ending_sentence(journal(settle_s=1, audit_s=None)) == "settle 1.0 s: 1.0 s"


@pytest.mark.parametrize("made", [page, markdown, junit])
def test_junk_in_evidence_breaks_no_form(made: Any) -> None:
    """What a fault saw may be anything; it is escaped, and XML stays XML."""
    document = journal()
    ours_of(document)["faults"][0] |= {"detail": EVIL, "outcome": "void", "target": EVIL}
    ours_of(document)["reasons"] = [EVIL]
    text = made(document)
    if made is page:
        assert "<script" not in text
    if made is junit:
        assert ElementTree.fromstring(text).get("errors") == "1"
    if made is markdown:
        row = next(line for line in text.splitlines() if "| void |" in line)
        assert row.replace("\\|", "").count("|") == 7


@pytest.mark.parametrize(
    ("changes", "failures", "errors"),
    [
        ({}, 0, 0),
        ({"verdict": "failed", "audit": {"result": "violated", "sentence": "P1"}}, 2, 0),
        ({"verdict": "inconclusive", "audit": {"result": "unknown"}}, 0, 2),
        ({"verdict": "aborted"}, 0, 1),
    ],
)
def test_junit_counts_what_ci_must_see(changes: Any, failures: int, errors: int) -> None:
    """Failed is a failure, a doubt or an abort an error."""
    suite = ElementTree.fromstring(junit(journal(**changes)))
    assert (suite.get("failures"), suite.get("errors")) == (str(failures), str(errors))
    assert suite.get("tests") == "5"


def test_figures_of_a_window_and_of_the_guard() -> None:
    """Rates, shares and the largest backlog of each phase; how often the guard was alarmed."""
    document = journal()
    samples = ours_of(document)["samples"]
    samples[15] |= {"refused_per_s": 20.0, "p95_ms": 900.0, "backlog": 77, "bad": ["x"],
                    "bad_in_a_row": 1}  # fmt: skip
    before, method = facts.window_rows(document)
    assert before == ("before (warm-up)", "20.0/s", "0.0%", "30 ms", "5")
    assert (method[1], method[2], method[4]) == ("20.0/s", "4.3%", "77")
    assert facts.guard_sentence(document) == (
        "22 evaluations, 1 found too much, at most 1 in a row (10 in a row abort)"
    )


def test_two_runs_side_by_side() -> None:
    """Every figure of either; verdicts decide whether they differ."""
    first, second = journal(), journal(verdict="failed", faults=[])
    found = {name: (one, other) for name, one, other in rows(first, second)}
    assert found["verdict"] == ("passed", "failed")
    assert found["kill at payment-1"] == ("proved, works again 2.5 s after its end", "-")
    assert differs(first, second)
    assert not differs(first, journal())


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(0.03, 0.05), (0.1, 0.1), (1, 1), (1.1, 2), (2.2, 2.5), (7, 10), (30, 50), (101, 200)],
)
def test_axes_end_at_round_numbers(value: float, wanted: float) -> None:
    """The next round number that is not below."""
    assert nice(value) == pytest.approx(wanted)


def test_a_long_run_is_thinned_without_losing_alarms() -> None:
    """An hour's samples become few, and a bad look is among them."""
    many = [sample(float(at)) for at in range(1, 3_601)]
    many[1_234]["bad"] = ["x"]
    few = thinned(many)
    assert len(few) <= POINTS_MAX
    assert any(one["bad"] for one in few)


def exam(**changes: Any) -> dict[str, Any]:
    """An alert exam as a journal keeps it: one right answer, one wrong alert."""
    row = {
        "name": "SloBurnFast", "fault": "kill it", "within_s": 20.0, "answer": "in time",
        "detection_s": 6.5, "resolves_within_s": 30.0, "ending": "late", "resolved_after_s": 41.0,
        "times": 1, "why": "", "alertmanager": "inhibited",
    }  # fmt: skip
    wrong = {"name": "SagaStuck", "severity": "page", "from_s": 20.0, "until_s": None,
             "forbidden": False}  # fmt: skip
    firings = [
        {"name": "SloBurnFast", "from_s": 18.5, "until_s": 25.0, "severity": "page"},
        {"name": "SagaStuck", "from_s": 20.0, "until_s": None, "severity": "page"},
        {"name": "SloTicketSlow", "from_s": 0.5, "until_s": 30.0, "severity": "ticket"},
        {"name": "ConsumerLag", "from_s": 15.0, "until_s": 18.0, "severity": "ticket"},
    ]
    return {
        "sat": True, "required": False, "result": "failed", "score": 0.3333,
        "reasons": ["SagaStuck fired, and nobody expected it"], "rows": [row], "wrong": [wrong],
        "silent": [{"name": "OutboxLag", "answer": "silent", "why": ""}],
        "standing": ["SloTicketSlow"], "firings": firings,
        "gaps": [{"from_s": 3.0, "until_s": 9.0}], **changes,
    }  # fmt: skip


EXAM_ROWS = [
    (
        "SloBurnFast",
        'fire within 20 s of "kill it" and stop within 30 s of its end',
        "stopped late",
        (
            "fired 6.5 s after the fault's beginning, stopped 41.0 s after its end,"
            " held back by Alertmanager, because a page of its area fired"
        ),
    ),
    (
        "SagaStuck",
        "- (nobody expected it)",
        "unexpected",
        'fired 8.0 s after the beginning of "kill it", and did not stop',
    ),
    ("OutboxLag", "stay silent", "right", "did not fire"),
    (
        "SloTicketSlow",
        "- (fired before)",
        "not marked",
        "fired 0.5 s after the GameDay's beginning, for 29.5 s",
    ),
    (
        "ConsumerLag",
        "- (it may fire)",
        "not marked",
        'fired 3.0 s after the beginning of "kill it", for 3.0 s',
    ),
]


def test_the_exam_is_told_in_words() -> None:
    """Expected, unexpected, silent and unmarked alerts: what, whether right, how long after."""
    assert facts.exam_rows(journal(exam=exam())) == EXAM_ROWS


def test_the_exam_is_in_every_form_of_the_report() -> None:
    """Sentence, table, chart, cases and comparison; the chart tells right from wrong."""
    document = journal(exam=exam())
    text = markdown(document)
    assert "- alert exam: failed, 33% right: SagaStuck fired" in text
    assert "| OutboxLag | stay silent | right | did not fire |" in text
    html = page(document)
    assert "<h2>Alert exam</h2>" in html
    chart = ElementTree.fromstring(timeline(ours_of(document)))
    kinds = [part.get("class", "") for part in chart.iter()]
    wanted = {"alert right": 1, "alert wrong": 1, "alert other": 2, "unseen": 1, "fault": 1}
    assert {kind: kinds.count(kind) for kind in wanted} == wanted
    suite = ElementTree.fromstring(junit(document))
    assert (suite.get("failures"), suite.get("skipped")) == ("0", "2"), "it is not required"
    required = ElementTree.fromstring(junit(journal(exam=exam(required=True))))
    assert required.get("failures") == "2"
    found = {name: (one, other) for name, one, other in rows(document, journal())}
    assert found["alert exam"] == ("failed, 33% right", "-")
    assert found["SloBurnFast fired after"] == ("6.5 s (in time)", "-")


@pytest.mark.parametrize(
    ("answer", "ending", "mark"),
    [
        ("in time", "in time", "right"),
        ("in time", "not asked", "right"),
        ("in time", "late", "stopped late"),
        ("in time", "still firing", "still firing"),
        ("in time", "unknown", "end unknown"),
        ("late", "in time", "late"),
        ("late", "late", "late, stopped late"),
        ("late", "not asked", "late"),
        ("missing", "not asked", "missing"),
        ("before", "in time", "before the fault"),
        ("before", "still firing", "before the fault, still firing"),
        ("unknown", "unknown", "unknown"),
        ("unknown", "not asked", "unknown"),
    ],
)
def test_two_answers_make_one_mark(answer: str, ending: str, mark: str) -> None:
    """A stranger reads one word for whether it fired and whether it stopped."""
    assert facts.exam_mark({"answer": answer, "ending": ending}) == mark


def test_an_exam_of_silence_and_one_of_nothing_are_told_apart() -> None:
    """Passed without an alert says so; what asked nothing is not passed; required, an error."""
    kept = exam(result="passed", score=1.0, reasons=[], rows=[], wrong=[], firings=[])
    assert (
        "- alert exam: passed, 100% right: no alert had to fire, and none of these did: OutboxLag"
        in markdown(journal(exam=kept))
    )
    for required, tag in ((False, "skipped"), (True, "errors")):
        nothing = exam(
            result="nothing asked", score=None, reasons=["no alert had to fire"], rows=[], wrong=[],
            silent=[], required=required,
        )  # fmt: skip
        document = journal(exam=nothing)
        assert "- alert exam: nothing asked: no alert had to fire" in markdown(document)
        assert ElementTree.fromstring(junit(document)).get(tag) == "1"


def test_an_exam_that_was_not_sat_is_said_and_fails_no_build() -> None:
    """Unknown, with what to do; and a journal from before there were exams is still rendered."""
    told = "the alert exam was not sat: start the lab with --observe"
    missing = {"sat": False, "required": False, "result": "unknown", "score": None,
               "reasons": [told]}  # fmt: skip
    document = journal(exam=missing)
    assert f"- alert exam: unknown: {told}" in markdown(document)
    assert told in page(document)
    assert ElementTree.fromstring(junit(document)).get("skipped") == "1"
    assert timeline(ours_of(document)) == ""
    assert "alert exam" not in markdown(journal()) + page(journal()).lower()


def test_junk_in_an_alert_breaks_no_form() -> None:
    """Names of alerts come from rules that anybody may have written."""
    found = exam()
    found["firings"][0]["name"] = found["rows"][0]["name"] = found["reasons"][0] = EVIL
    document = journal(exam=found)
    assert "<script" not in page(document)
    ElementTree.fromstring(junit(document))
