"""How a GameDay ends: whatever has happened before, load and audit end, and there is a verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from chaos.gameday import alerts, catalogue, ending
from chaos.gameday.alerts import AlertWatch
from chaos.gameday.audit import Audit
from chaos.gameday.ending import Ending
from chaos.gameday.strikes import Struck
from chaos.gameday.timeline import Timeline
from chaos.lab.process import LabError
from chaos.workload.traffic import TrafficFailed

pytestmark = pytest.mark.unit

HOLDS = Audit({"result": "holds", "sentence": "all holds", "invariants": []}, 2.5, 1.5)
PROVED = Struck("kill payment", "kill", "payment-1", "proved", "gone", 10.0, 11.0, 2.0)


class FakeGame:
    """A GameDay after its method, in a lab without Prometheus; whatever is called stands in
    `called`."""

    def __init__(self, *struck: Struck) -> None:
        self.called: list[str] = []
        self.said: list[str] = []
        self.experiment = catalogue.shipped("kill-payment")
        self.timeline = Timeline(self.said.append)
        self.strikes = SimpleNamespace(struck=list(struck or (PROVED,)))
        self.alerts: Any = AlertWatch(None, self.timeline.began_s)
        self.traffic = SimpleNamespace(stop=self.does("load ends"), accepted=10_000)
        self.monitor = SimpleNamespace(stop=self.does("monitor ends"))
        self.meter = SimpleNamespace(stop=self.does("meter ends"))
        self.target: Any = None
        self.known: Mapping[str, int] = {}
        self.aborted = self.broken = ""
        self.end_faults: Callable[[], Any] = self.does("faults end", {"left": []})
        self.steady = True

    def does(self, what: str, found: Any = None) -> Callable[[], Any]:
        """Something that is noted and answers `found`, or raises it."""

        def call() -> Any:
            self.called.append(what)
            if isinstance(found, Exception):
                raise found
            return found

        return call

    def wait_steady(self, timeout_s: float) -> bool:
        """Whether it came back."""
        self.called.append(f"steady within {timeout_s:g}")
        return self.steady

    def found_broken(self, why: str) -> None:
        """The first reason counts."""
        self.broken = self.broken or why

    def end(self, before: bool | None = True, after: bool | None = True) -> Ending:
        """Its end."""
        game: Any = self
        return ending.end(game, before, after)

    @property
    def phases(self) -> list[str]:
        """The names of its phases."""
        return [one.name for one in self.timeline.phases]


@pytest.fixture(autouse=True)
def books(monkeypatch: pytest.MonkeyPatch) -> list[Audit]:
    """What the next audit finds."""
    found = [HOLDS]
    monkeypatch.setattr(ending, "audit", lambda _target, _progress: found[0])
    return found


def test_a_good_end_passes_and_says_what_it_took() -> None:
    """Faults end, the steady state is looked at once more, then the load ends, then the audit."""
    game = FakeGame()
    found = game.end()
    assert found.verdict == ("passed", ())
    assert found.steady_after is True
    assert game.called[:3] == ["faults end", "steady within 15", "load ends"]
    assert game.phases == ["steady state after rollback", "audit"]
    assert all(one.ended_s is not None for one in game.timeline.phases)
    assert found.settle_s >= HOLDS.rest_s, "the auditor's wait for rest is no reading of books"
    assert found.audit_s == HOLDS.took_s
    assert (found.exam["sat"], found.exam["result"]) == (False, "unknown")


def test_a_lab_that_is_gone_keeps_nothing_from_its_end() -> None:
    """Load and audit end, and the verdict says what broke."""
    game = FakeGame()
    game.end_faults = game.does("faults end", LabError("no supervisor"))
    game.traffic.stop = game.does("load ends", TrafficFailed("no answers"))
    found = game.end()
    assert found.verdict.word == "inconclusive"
    assert found.verdict.reasons[0].startswith("the lab is gone: no supervisor")
    assert found.steady_after is None
    assert game.called == ["faults end", "load ends", "monitor ends", "meter ends"]
    assert game.phases == ["audit"]


@pytest.mark.parametrize("before", [None, False])
def test_without_a_steady_beginning_there_is_no_audit(before: bool | None) -> None:
    """Nothing was broken, so there is nothing to recover from and nothing to judge."""
    game = FakeGame()
    found = game.end(before, None)
    assert (found.steady_after, dict(found.audit), found.audit_s) == (None, {}, None)
    assert found.verdict.word == "inconclusive"
    assert "load ends" in game.called
    assert game.phases == []


def test_a_steady_state_that_is_missing_is_not_asked_for_again() -> None:
    """Chaos Toolkit has waited for it; one that it never looked at gets the whole recovery."""
    game = FakeGame()
    assert game.end(after=False).verdict == ("failed", ("the steady state did not come back",))
    assert not any(one.startswith("steady") for one in game.called)
    game = FakeGame()
    game.steady = False
    assert game.end(after=None).steady_after is False
    assert f"steady within {game.experiment.knobs.recovery_s:g}" in game.called


@pytest.mark.parametrize(("known", "word"), [(0, "failed"), (1, "inconclusive")])
def test_a_violation_is_this_gamedays_unless_it_stood_there(
    books: list[Audit], known: int, word: str
) -> None:
    """And the first order that is wrong is named."""
    witness = {"order_id": "o-1", "wrong": "charged twice"}
    wrong = {"id": "P1", "violations": 1, "witnesses": [witness]}
    books[0] = Audit({"result": "violated", "sentence": "P1 x1", "invariants": [wrong]}, 1, 1)
    game = FakeGame()
    game.known = {"P1": known}
    found = game.end().verdict
    assert found.word == word
    assert "P1 x1 (P1: order o-1: charged twice)" in found.reasons[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"expired": True}, "kill payment is ended by its lease: gone"),
        ({"after_failed": "a lock is left"}, "is not as it must be afterwards: a lock is left"),
    ],
    ids=["lease", "afterwards"],
)
def test_a_proved_fault_that_did_not_end_well_is_a_doubt(
    change: dict[str, Any], reason: str
) -> None:
    """What it left behind may be what was seen."""
    found = FakeGame(PROVED._replace(**change)).end().verdict
    assert found.word == "inconclusive"
    assert reason in found.reasons[0]


@pytest.mark.parametrize("aborted", ["", "SIGINT came"])
def test_the_exam_waits_for_answers_until_it_is_broken_off(
    monkeypatch: pytest.MonkeyPatch, aborted: str
) -> None:
    """Orders flow meanwhile; an abort, before or within, ends the wait and not the exam."""
    looks = [True, True, True, False]
    faults: list[Any] = []

    def worth_waiting(_sheet: Any, asked: Any, *_: Any) -> bool:
        faults[:] = asked
        if len(looks) == 2:
            game.aborted = aborted
        return looks.pop(0)

    marks = {"result": "failed", "required": True, "score": 0.0, "rows": [], "reasons": ["X late"]}
    monkeypatch.setattr(alerts, "worth_waiting", worth_waiting)
    monkeypatch.setattr(alerts, "document", lambda *_, **__: marks)
    monkeypatch.setattr(ending, "LOOK_S", 0)
    game = FakeGame(PROVED, PROVED._replace(name="late", outcome="called off"))
    game.alerts = SimpleNamespace(possible=True, stop=game.does("alerts end"))
    found = game.end()
    assert len(looks) == (1 if aborted else 0)
    assert game.phases == ["steady state after rollback", "alert exam", "audit"]
    assert [one.name for one in faults] == [PROVED.name], "what was called off was never there"
    assert game.called.index("alerts end") < game.called.index("load ends")
    assert found.exam is marks
    assert found.verdict.word == ("aborted" if aborted else "inconclusive")
    assert any("alert exam: failed, 0% right: X late" in line for line in game.said)


def test_phases_follow_each_other() -> None:
    """Each is ended by the next one, told as it begins, and ended once."""
    said: list[str] = []
    entered: list[str] = []
    timeline = Timeline(said.append, entered.append)
    assert timeline.present == ""
    timeline.enter("warm-up")
    with pytest.raises(KeyError), timeline.phase("method"):
        assert timeline.present == "method"
        raise KeyError
    first, second = timeline.phases
    assert first.ended_s is not None
    assert second.ended_s is not None
    assert second.began_s >= first.ended_s
    timeline.leave()
    assert timeline.phases == [first, second]
    assert entered == ["warm-up", "method"]
    assert [line.split(" s  ")[1] for line in said] == entered
