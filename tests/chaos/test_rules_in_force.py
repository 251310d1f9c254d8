"""Facts about the chaos rules of one worker: taken up, replaced, refused, ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from app.settings import load_settings
from chaos.control import in_force
from chaos.control.hits import Hits
from chaos.control.in_force import CONFIG_PREFIX, InForce
from chaos.control.rule import Rule, Scope, encode
from chaos.faults.kinds import Kind

pytestmark = pytest.mark.unit

AT = datetime(2026, 1, 1, tzinfo=UTC)
TOPIC = "payment.requested"


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the test's fault takes."""

    min_ms: int = 0


@dataclass
class Timer:
    """A call that is due at `at_s`."""

    at_s: float
    action: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        """Never call."""
        self.cancelled = True


@dataclass
class Worker:
    """A worker whose time stands still, with a fault that notes what is done to it."""

    role: str = "payment"
    name: str = "payment-1"
    rules_max: int = 3
    now_s: float = 0.0
    skew_s: float = 0.0
    timers: list[Timer] = field(default_factory=list)
    on: dict[str, Hits] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    broken: str = ""

    def __post_init__(self) -> None:
        settings = load_settings(
            role=self.role, worker_id=self.name, chaos_rules_max=self.rules_max
        )
        app = cast(Any, SimpleNamespace(settings=settings, role=SimpleNamespace(name=self.role)))
        kind = Kind(
            "delay",
            "a test's fault",
            Params,
            frozenset({"topic"}),
            frozenset({"payment", "web"}),
            frozenset({"delay"}),
            lambda rule, hits, _: Fault(self, rule, hits),
        )
        self.rules = InForce(
            app,
            {"delay": kind},
            self.later,
            wall=lambda: AT.timestamp() + self.now_s + self.skew_s,
            monotonic=lambda: self.now_s,
        )

    def later(self, delay_s: float, action: Callable[[], None]) -> Timer:
        """The event loop's part."""
        self.timers.append(Timer(self.now_s + delay_s, action))
        return self.timers[-1]

    def pass_time(self, seconds: float) -> None:
        """Let time go by, with what is due in it."""
        self.now_s += seconds
        for timer in self.timers:
            if not timer.cancelled and timer.at_s <= self.now_s:
                timer.cancelled = True
                timer.action()

    def publish(self, rule: Rule, version: int = 1) -> str:
        """A change of the topic arrives."""
        return self.rules.apply(rule.id, encode(rule), version)


class Fault:
    """Notes that it is on or off."""

    def __init__(self, worker: Worker, rule: Rule, hits: Hits) -> None:
        self._worker, self._rule, self._hits = worker, rule, hits

    def start(self) -> None:
        """Be on."""
        if self._worker.broken == "start":
            raise RuntimeError("no such seam")
        self._worker.on[self._rule.id] = self._hits
        self._worker.log.append(f"on {self._rule.id}")

    def stop(self) -> None:
        """Be off."""
        self._worker.on.pop(self._rule.id, None)
        self._worker.log.append(f"off {self._rule.id}")
        if self._worker.broken == "stop":
            raise RuntimeError("stuck")


def rule(rule_id: str = "r1", **changes: Any) -> Rule:
    """A rule with a lease of a minute."""
    lease = {"ttl_s": 60.0, "expires_at": AT + timedelta(seconds=60)}
    return Rule(**{"id": rule_id, "fault": "delay", **lease, **changes})


def test_a_published_rule_is_in_force_until_it_is_deleted() -> None:
    """The note says what is in force, with its version and hits."""
    worker = Worker()
    assert worker.publish(rule(), 7) == ""
    assert worker.on["r1"].strikes(TOPIC, b"k")
    said = worker.rules.note()["r1"]
    assert (said["version"], said["seen"], said["struck"]) == (7, 1, 1)
    assert worker.rules.apply("r1", None, 8) == ""
    assert worker.rules.note() == worker.rules.known() == {}
    assert worker.log == ["on r1", "off r1"]
    assert worker.timers[0].cancelled


def test_a_new_version_replaces_the_old_one_at_once() -> None:
    """Never both; the old one's timer does not end the new one."""
    worker = Worker()
    worker.publish(rule(), 1)
    old = worker.on["r1"]
    worker.pass_time(30)
    worker.publish(rule(expires_at=AT + timedelta(seconds=90)), 2)
    assert worker.log == ["on r1", "off r1", "on r1"]
    assert not old.strikes(TOPIC, b"k")
    worker.pass_time(31)
    assert "r1" in worker.on
    worker.pass_time(30)
    assert worker.on == {}


def test_a_lease_ends_a_rule_by_the_worker_itself() -> None:
    """Nobody has to say so."""
    worker = Worker()
    worker.publish(rule())
    worker.pass_time(59.9)
    assert "r1" in worker.on
    worker.pass_time(0.1)
    assert worker.on == worker.rules.note() == worker.rules.known() == {}


@pytest.mark.parametrize("skew_s", [-3600.0, 3600.0])
def test_a_wrong_clock_never_makes_a_lease_longer(skew_s: float) -> None:
    """A clock behind takes the whole `ttl_s` from the taking up, one ahead takes it for over."""
    worker = Worker(skew_s=skew_s)
    assert worker.publish(rule()) == ""
    assert ("r1" in worker.on) is (skew_s < 0)
    worker.pass_time(60)
    assert worker.on == {}


def test_a_rule_that_is_over_when_it_is_read_is_not_taken_up() -> None:
    """A worker that starts reads old records too."""
    worker = Worker(now_s=61)
    assert worker.publish(rule()) == ""
    assert worker.log == []


def test_the_switch_ends_older_rules_and_lets_newer_ones_be() -> None:
    """Also such as come late, and one that was made before the switch is never taken up again."""
    worker = Worker()
    worker.publish(rule("old", epoch=4))
    worker.publish(rule("new", epoch=5))
    assert set(worker.on) == {"new"}, "a rule of a higher epoch says that the switch was thrown"
    worker.rules.switch(5)
    assert set(worker.on) == {"new"}
    worker.publish(rule("late", epoch=4))
    assert set(worker.on) == set(worker.rules.known()) == {"new"}
    worker.rules.switch(6)
    worker.rules.switch(5)
    assert worker.on == worker.rules.known() == {}
    assert worker.rules.epoch == 6


def test_a_rule_for_others_is_known_and_not_in_force() -> None:
    """By role, by worker, by what the fault can be shown at."""
    worker = Worker()
    for number, scope in enumerate((Scope(roles=("web",)), Scope(workers=("payment-2",)))):
        assert worker.publish(rule(f"r{number}", scope=scope)) == ""
    assert worker.log == []
    assert set(worker.rules.known()) == {"r0", "r1"}
    elsewhere = Worker(role="shipping", name="shipping-1")
    assert elsewhere.publish(rule()) == ""
    assert elsewhere.log == []


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (b"{", "unreadable"),
        (b"\xff", "unreadable"),
        (b'{"id":"r1"}', "unreadable"),
        (encode(rule("other")), "its id is 'other'"),
        (encode(rule(fault="nonsense")), "unknown fault 'nonsense'"),
        (encode(rule(params={"min_ms": "x"})), "Expected `int`"),
        (encode(rule(params={"odd": 1})), "unknown field `odd`"),
    ],
)
def test_what_cannot_be_applied_is_refused_with_the_reason(value: bytes, complaint: str) -> None:
    """Nothing of it stays, and the worker goes on."""
    worker = Worker()
    assert complaint in worker.rules.apply("r1", value, 1)
    assert worker.on == {}
    assert worker.publish(rule()) == ""


def test_a_fault_that_does_not_start_leaves_nothing_and_one_that_sticks_strikes_nothing() -> None:
    """Hits end even where the seam stays."""
    worker = Worker(broken="start")
    assert "no such seam" in worker.publish(rule())
    assert worker.log == ["off r1"]
    worker.broken = "stop"
    assert worker.publish(rule()) == ""
    hits = worker.on["r1"]
    worker.rules.apply("r1", None, 2)
    assert not hits.strikes(TOPIC, b"k")
    assert worker.rules.note() == {}


def test_no_more_rules_than_the_setting_allows() -> None:
    """The one too many is refused, and has room once another ends."""
    worker = Worker(rules_max=1)
    worker.publish(rule("a"))
    assert "chaos_rules_max = 1" in worker.publish(rule("b"))
    worker.rules.apply("a", None, 2)
    assert worker.publish(rule("b")) == ""


def test_hits_are_told_once_and_those_of_an_ended_rule_as_well() -> None:
    """Nothing that was struck goes untold because the rule is over."""
    worker = Worker()
    worker.publish(rule())
    worker.on["r1"].strikes(TOPIC, b"k")
    worker.rules.apply("r1", None, 2)
    told = worker.rules.take_hits()
    assert [(one.id, places) for one, places in told] == [("r1", {TOPIC: 1})]
    assert worker.rules.take_hits() == []


def test_what_stands_under_a_config_key_is_no_rule() -> None:
    """It is kept for the web side."""
    worker = Worker()
    assert worker.rules.apply(f"{CONFIG_PREFIX}http", b"{}", 1) == ""
    assert worker.rules.configs == {"config/http": b"{}"}
    worker.rules.apply(f"{CONFIG_PREFIX}http", None, 2)
    assert worker.rules.configs == {}
    assert worker.rules.known() == {}


def test_the_latest_changes_are_known_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deletions and refusals too, for whoever takes a change back; the oldest are forgotten."""
    monkeypatch.setattr(in_force, "CHANGED_MAX", 2)
    worker = Worker()
    worker.publish(rule("a"), 1)
    worker.rules.apply("a", None, 2)
    worker.rules.apply("b", b"{", 3)
    assert worker.rules.changed == {"a": 2, "b": 3}
    worker.rules.apply(f"{CONFIG_PREFIX}http", b"{}", 4)
    assert worker.rules.changed == {"b": 3, "config/http": 4}


def test_a_worker_that_stops_ends_its_rules() -> None:
    """All of them, at once."""
    worker = Worker()
    worker.publish(rule("a"))
    worker.publish(rule("b"))
    worker.rules.stop()
    assert worker.on == {}
