"""A chaos rule as a fault of a GameDay, with an API whose answers are given."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from chaos.console.api import ApiError
from chaos.gameday import rules
from chaos.gameday.rules import LeasedRule

pytestmark = pytest.mark.unit

AWAY = ApiError("does not answer")
IN_DOUBT = ApiError("Kafka did not confirm the change in time", 503)
REFUSED = ApiError("another rule is there", 409)
GONE = ApiError("no such rule", 404)


class FakeApi:
    """An API: `puts` are the answers to what is put, the last one for ever; `hits` what the rule
    has struck by the looks at it, the same way; `stands`, whether it is there; `done` is what was
    asked of it.
    """

    def __init__(self) -> None:
        self.puts: list[Any] = [{"pending": []}]
        self.hits: list[int] = [0]
        self.stands: list[Any] = [GONE]
        self.deletes: list[Any] = [{}]
        self.done: list[str] = []

    def _answer(self, what: str, answers: list[Any]) -> Any:
        self.done.append(what)
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(found, Exception):
            raise found
        return found

    def put(self, *_: Any) -> Any:
        """Make or renew it."""
        return self._answer("put", self.puts)

    def delete(self, *_: Any) -> Any:
        """End it."""
        return self._answer("delete", self.deletes)

    def get(self, path: str) -> Any:
        """The rule, or how it stands."""
        if path.endswith("one"):
            return self._answer("ask", self.stands)
        found = self._answer("look", self.hits)
        return {"rules": [{"rule": {"id": "one"}, "hits": found}]}


class Clock:
    """Time that passes by sleeping."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        """Now."""
        return self.now_s

    def sleep(self, for_s: float) -> None:
        """Later."""
        self.now_s += for_s


class FakeStop(threading.Event):
    """An event whose waiting is the clock's."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep, unless it is set."""
        if not self.is_set():
            self._clock.sleep(timeout or 0)
        return self.is_set()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time of rules."""
    made = Clock()
    monkeypatch.setattr(rules, "time", made)
    return made


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    """The API that rules ask."""
    made = FakeApi()
    monkeypatch.setattr(rules, "Api", lambda _: made)
    return made


def rule(clock: Clock, fault: str = "crash", *, stopped: bool = False) -> LeasedRule:
    """A rule of this fault, perhaps of a GameDay that was aborted."""
    stop = FakeStop(clock)
    if stopped:
        stop.set()
    return LeasedRule("http://lab", "one", {"fault": fault}, 1, stop)


def test_a_crash_is_told_by_the_worker_that_follows(api: FakeApi, clock: Clock) -> None:
    """It needs longer to be back than hits of the living need to be told: the rule stays in force
    for it. It is not renewed, because that would count anew.
    """
    one = rule(clock)
    one.make("why")
    back = 18  # looks, each half a second after the other
    api.hits = [0] * back + [1]
    assert one.end()
    assert one.evidence() == "1 struck by rule one"
    assert api.done.count("put") == 1
    assert api.done[-1] == "delete"
    assert clock.now_s < back


@pytest.mark.parametrize(
    ("fault", "stopped"), [("delay", False), ("crash", True)], ids=["other", "aborted"]
)
def test_nothing_else_waits_for_a_worker(
    api: FakeApi, clock: Clock, fault: str, *, stopped: bool
) -> None:
    """What strikes the living is told in time, and whoever aborts a GameDay wants its end."""
    one = rule(clock, fault, stopped=stopped)
    one.make("why")
    assert one.end()
    assert one.evidence() == ""
    assert clock.now_s < rules.COUNTED_S + 1
    assert api.done[-1] == "delete"


def test_a_crash_that_struck_nobody_is_void_in_the_end(api: FakeApi, clock: Clock) -> None:
    """Its end is bounded by its lease."""
    one = rule(clock)
    one.make("why")
    assert one.end()
    assert one.evidence() == ""
    assert clock.now_s < rules.TTL_S + rules.COUNTED_S + 1


@pytest.mark.parametrize("doubt", [AWAY, IN_DOUBT], ids=["no-answer", "not-confirmed"])
def test_a_rule_in_doubt_is_made_again(api: FakeApi, clock: Clock, doubt: ApiError) -> None:
    """As long as the API does not know it."""
    api.puts = [doubt, doubt, {"pending": ["web-1"]}]
    one = rule(clock)
    one.make("why")
    api.hits = [2]
    assert one.end()
    assert one.evidence() == "2 struck by rule one; not in force at once in web-1"


def test_a_rule_in_doubt_that_is_there_is_not_made_again(api: FakeApi, clock: Clock) -> None:
    """To make it again would count anew, and the crash of the API's own worker is told already."""
    api.puts, api.stands, api.hits = [AWAY], [AWAY, {"id": "one"}], [1]
    one = rule(clock)
    one.make("why")
    assert api.done == ["put", "ask", "put", "ask"]
    assert one.end()
    assert one.evidence() == "1 struck by rule one"


def test_a_rule_that_stays_in_doubt_is_ended(api: FakeApi, clock: Clock) -> None:
    """Nobody knows whether it is in force, so it is deleted, even when a later try is refused."""
    api.puts = [AWAY]
    one = rule(clock, "delay")
    with pytest.raises(ApiError, match="does not answer"):
        one.make("why")
    assert rules.MADE_S < clock.now_s < rules.MADE_S + 2
    api.deletes = [AWAY, GONE]
    assert one.end()
    assert api.done[-2:] == ["delete", "delete"]
    api.puts, api.done = [AWAY, REFUSED], []
    one = rule(clock, "delay")
    with pytest.raises(ApiError, match="another rule"):
        one.make("why")
    assert one.end()
    assert api.done[-1] == "delete"


def test_a_refused_rule_was_never_there(api: FakeApi, clock: Clock) -> None:
    """One answer, and nothing to end or to wait for."""
    api.puts = [REFUSED]
    one = rule(clock)
    with pytest.raises(ApiError, match="another rule"):
        one.make("why")
    assert one.end()
    assert (api.done, clock.now_s) == (["put"], 0.0)


def test_hits_before_a_renewal_count(api: FakeApi, clock: Clock) -> None:
    """Renewing counts anew; one that the API does not take counts on."""
    one = rule(clock, "delay")
    one.make("why")
    api.hits = [3, 5, 7, 2]
    api.puts = [{}, AWAY, {}]
    one.hold(18)
    assert one.end()
    assert one.evidence() == "12 struck by rule one", "3 and 7 before renewals, 2 at the end"
