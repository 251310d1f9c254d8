"""What the bench of the alert exam publishes, made from journals."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from bench import exam
from bench.exam import DEFAULT, HEAD, Labs, Ran, asks_long, known, rows, turns, verdicts
from chaos.gameday import catalogue

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
    ran: list[Ran] = [
        ("slow-provider", {"verdict": "passed", "exam": EXAM, "took_s": 71.5}),
        ("kill-payment", {"verdict": "did not end"}),
    ]
    found = rows(ran)
    assert all(len(row) == len(HEAD) for row in found)
    assert found[0] == [
        "slow-provider", "a slow gateway", "BreakerOpen", 8.7, 20.0, 3.6, 60.0, "right",
    ]  # fmt: skip
    assert found[1][2:] == ["X", "at 30.2", None, None, None, "unexpected"]
    assert verdicts(ran) == [
        ["slow-provider", "passed", "failed, 67% right: X fired", 71.5],
        ["kill-payment", "did not end", "not sat", None],
    ]


def test_only_experiments_of_the_catalogue_are_examined() -> None:
    """The default ones are there; another name is refused before a lab is started."""
    assert known(",".join(DEFAULT)) == list(DEFAULT)
    assert known("all") == catalogue.names()
    with pytest.raises(argparse.ArgumentTypeError, match="no-such"):
        known("kill-payment, no-such")
    for text in ("", "kill-payment,kill-payment"):
        with pytest.raises(argparse.ArgumentTypeError, match="each once"):
            known(text)


def test_the_whole_catalogue_runs_on_two_labs() -> None:
    """A plain one and one with the proxy; what asks for a bad past comes first in a new lab."""
    (plain, some), (proxied, others) = turns(catalogue.names())
    assert (plain, proxied) == (False, True)
    assert sorted(some + others) == catalogue.names()
    assert others == ["network-latency", "network-partition"]
    assert [asks_long(name) for name in some] == sorted(map(asks_long, some), reverse=True)
    assert some[0] == "slow-provider"


class FakeLabs(Labs):
    """Starts nothing; remembers what was asked of it."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def of(self, *, proxy: bool) -> Any:
        self.told.append(f"lab, proxy {proxy}")

    def down(self) -> None:
        self.told.append("down")


def test_one_that_breaks_keeps_none_from_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is the result of that experiment; Ctrl-C ends them all."""
    answers: dict[str, Any] = {
        "kill-api": RuntimeError("it broke"),
        "kill-payment": {"verdict": "passed"},
        "network-latency": KeyboardInterrupt(),
    }

    def sit(_lab: object, name: str) -> Any:
        if isinstance(answers[name], BaseException):
            raise answers[name]
        return answers[name]

    monkeypatch.setattr(exam, "_sit", sit)
    labs = FakeLabs()
    running = exam.examine(["network-latency", "kill-api", "kill-payment"], labs)
    assert next(running) == ("kill-api", {"verdict": "did not end", "reasons": ["it broke"]})
    assert next(running) == ("kill-payment", {"verdict": "passed"})
    with pytest.raises(KeyboardInterrupt):
        next(running)
    assert labs.told == ["lab, proxy False", "lab, proxy False", "down", "lab, proxy True"]
