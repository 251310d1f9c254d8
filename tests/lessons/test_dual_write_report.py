"""What the lesson makes of what it found: rows, verdict, and the report in three forms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chaos.lessons.dual_write.command import write
from chaos.lessons.dual_write.findings import Mode, Placed, Run, Scenario, document
from chaos.lessons.dual_write.reconcile import Books
from chaos.lessons.dual_write.report import html, markdown

pytestmark = pytest.mark.unit


def run(
    stored: set[str],
    published: set[str],
    *,
    scenario: Scenario = Scenario.LOST,
    mode: Mode = Mode.DUAL_WRITE,
    during: int = 202,
) -> Run:
    """One order before, one during, one after the fault."""
    placed = [
        Placed("before", 202, "a"),
        Placed("during", during, "b" if during == 202 else ""),
        Placed("after", 202, "c"),
    ]
    books = Books(frozenset(stored), frozenset(published))
    return Run(scenario, mode, placed, books, [(0.0, "the broker is killed")])


def results(one: Run) -> dict[str, str]:
    """Which rows fail."""
    return {check.name: check.result for check in one.checks if check.result == "FAIL"}


def test_books_are_compared_order_by_order() -> None:
    """One lost event beside one phantom: equal counts, two differences."""
    found = run({"a", "b", "c"}, {"a", "c", "x"})
    assert (found.books.lost, found.books.phantom) == (["b"], ["x"])
    assert len(found.books.stored) == len(found.books.published)
    assert found.inconsistent


def test_what_was_there_before_does_not_count() -> None:
    """An earlier run's drift is not this one's."""
    earlier = Books(frozenset("pq"), frozenset("p"))
    now = Books(frozenset("pqab"), frozenset("pab")).without(earlier)
    assert (now.lost, now.phantom) == ([], [])


def test_a_lost_event_fails_its_rows() -> None:
    """The rows of the fault, of the counts and of the lost ones; not those of a healthy time."""
    found = run({"a", "b", "c"}, {"a", "c"})
    assert list(results(found)) == [
        "their events are in Kafka",
        "the database holds as many orders as Kafka events",
        "lost events (order stored, no event)",
    ]
    assert found.as_taught
    assert not run({"a", "b", "c"}, {"a", "b", "c"}).as_taught


def test_a_phantom_event_fails_its_rows() -> None:
    """An event of a refused request is a phantom, and something that a refusal left."""
    found = run({"a", "c"}, {"a", "c", "x"}, scenario=Scenario.PHANTOM, during=500)
    assert list(results(found)) == [
        "the database holds as many orders as Kafka events",
        "phantom events (event published, no order)",
        "a refused request left neither order nor event",
    ]
    assert found.as_taught


def test_an_answer_of_500_after_the_commit_is_seen() -> None:
    """The client was told that it failed, the order is there."""
    found = run({"a", "b", "c"}, {"a", "c"}, mode=Mode.DUAL_WRITE_RAISE, during=500)
    assert "a refused request left neither order nor event" in results(found)
    assert found.books.lost == ["b"]
    assert "500" in document(found)["root_cause"]


@pytest.mark.parametrize("scenario", list(Scenario))
def test_the_outbox_must_pass_every_row(scenario: Scenario) -> None:
    """No difference is taught; any difference is not as taught."""
    good = run({"a", "b", "c"}, {"a", "b", "c"}, scenario=scenario, mode=Mode.OUTBOX)
    assert (results(good), good.as_taught) == ({}, True)
    assert document(good)["fix"] == ""
    bad = run({"a", "b", "c"}, {"a", "c"}, scenario=scenario, mode=Mode.OUTBOX)
    assert not bad.as_taught


@pytest.mark.parametrize("scenario", list(Scenario))
@pytest.mark.parametrize("mode", list(Mode))
def test_the_report_in_three_forms(scenario: Scenario, mode: Mode, tmp_path: Path) -> None:
    """JSON, Markdown and a page that loads nothing, all with rows, timeline, ids, cause and fix."""
    report = document(run({"a", "b<i>", "c"}, {"a", "c"}, scenario=scenario, mode=mode))
    write(tmp_path, report)
    assert json.loads((tmp_path / "report.json").read_text()) == report
    page, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    assert page == html(report)
    assert text == markdown(report)
    for form in (page, text):
        assert "the broker is killed" in form
        assert "FAIL" in form
        assert "PASS" in form
        assert report["root_cause"][:20] in form
    assert "b&lt;i&gt;" in page
    assert "src=" not in page
    assert "href=" not in page
    assert report["lost"] == ["b<i>"]
