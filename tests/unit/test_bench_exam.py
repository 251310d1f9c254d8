"""What the bench of the alert exam publishes, made from journals."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from bench.exam import DEFAULT, HEAD, known, rows, verdicts

pytestmark = pytest.mark.unit

ROW = {
    "name": "BreakerOpen", "fault": "a slow gateway", "within_s": 20.0, "answer": "in time",
    "detection_s": 8.7, "resolves_within_s": 60.0, "ending": "in time", "resolved_after_s": 3.6,
    "times": 1, "why": "", "alertmanager": "arrived",
}  # fmt: skip
EXAM: dict[str, Any] = {
    "sat": True, "result": "failed", "score": 0.6667, "reasons": ["X fired"], "rows": [ROW],
    "wrong": [{"name": "X", "severity": "page", "from_s": 30.25, "until_s": None}],
}  # fmt: skip


def test_a_row_per_question_and_per_wrong_alert() -> None:
    """Detection times stand beside what was allowed; a run without an exam has no row."""
    ran = [("slow-provider", {"verdict": "passed", "exam": EXAM}), ("kill-payment", {})]
    found = rows(ran)
    assert all(len(row) == len(HEAD) for row in found)
    assert found[0][:6] == ["slow-provider", "a slow gateway", "BreakerOpen", 8.7, 20.0, "in time"]
    assert found[1][2:6] == ["X", "at 30.2", None, "wrong"]
    assert verdicts(ran) == [
        ["slow-provider", "passed", "failed, 67% right: X fired"],
        ["kill-payment", "did not begin", "not sat"],
    ]


def test_only_experiments_of_the_catalogue_are_examined() -> None:
    """The default ones are there; another name is refused before a lab is started."""
    assert known(",".join(DEFAULT)) == list(DEFAULT)
    with pytest.raises(argparse.ArgumentTypeError, match="no-such"):
        known("kill-payment, no-such")
