"""The rules that one worker has in force: taken up, replaced, ended by lease or kill switch.

No I/O of its own: changes come from the board, epochs from the switch, time from the clocks that it
is given. Guarantees that a rule ends by its lease with Kafka and PostgreSQL away and, where a clock
is wrong, within `ttl_s` after it was taken up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from app.observability import metrics
from app.observability.logging import get_log
from chaos.control.hits import Hits
from chaos.control.rule import Rule, decode

if TYPE_CHECKING:
    from app.delivery import App
    from chaos.faults.kinds import Active, Kind

log = get_log(__name__)

CONFIG_PREFIX = "config/"
"""Keys of the topic that are no rules: what the web side keeps there."""

CHANGED_MAX = 2_000


class Handle(Protocol):
    """A timer that can be called off."""

    def cancel(self) -> None: ...


Later = Callable[[float, Callable[[], None]], Handle]
"""(seconds, what to do then), such as the event loop's `call_later`."""


class Held(NamedTuple):
    """One rule in force."""

    rule: Rule
    hits: Hits
    active: Active
    timer: Handle


class InForce:
    """The rules of one worker. `known` are all that were published and have not ended, whoever
    they are for; `configs` what stands under other keys; `changed` the versions of the latest
    changes by key, deletions included."""

    def __init__(
        self,
        app: App,
        kinds: Mapping[str, Kind],
        later: Later,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._kinds = kinds
        self._later = later
        self._wall = wall
        self._monotonic = monotonic
        self._held: dict[str, Held] = {}
        self._ended: list[Held] = []
        self._known: dict[str, Rule] = {}
        self._keys: set[str] = set()
        self.configs: dict[str, bytes] = {}
        self.changed: dict[str, int] = {}
        self.epoch = 0

    def apply(self, key: str, value: bytes | None, version: int) -> str:
        """Take up a change of the topic; returns why it was refused, or nothing."""
        self.changed.pop(key, None)
        self.changed[key] = version
        if len(self.changed) > CHANGED_MAX:
            del self.changed[next(iter(self.changed))]
        if key.startswith(CONFIG_PREFIX):
            self.configs.pop(key, None)
            if value is not None:
                self.configs[key] = value
            return ""
        self._keys.discard(key) if value is None else self._keys.add(key)
        self._drop(key, "replaced" if value is not None else "deleted")
        self._known.pop(key, None)
        if value is None:
            return ""
        try:
            rule = decode(value, version)
        except ValueError as error:
            return f"unreadable: {error}"
        if rule.id != key:
            return f"its id is {rule.id!r}"
        if rule.epoch > self.epoch:
            self.switch(rule.epoch)
        if rule.epoch < self.epoch or self._left_s(rule) <= 0:
            return ""
        self._known[key] = rule
        settings = self._app.settings
        if not rule.scope.targets(self._app.role.name, settings.worker_id):
            return ""
        refusal = self._take_up(rule)
        if refusal:
            log.warning("chaos.rule_refused", rule=rule.id, fault=rule.fault, reason=refusal)
        return refusal

    def switch(self, epoch: int) -> None:
        """The kill switch is at `epoch`: every rule of a lower one ends now."""
        if epoch <= self.epoch:
            return
        log.warning("chaos.switch", epoch=epoch, rules=len(self._held))
        self.epoch = epoch
        for held in list(self._held.values()):
            if held.rule.epoch < epoch:
                self._drop(held.rule.id, "killed")
        self._known = {i: rule for i, rule in self._known.items() if rule.epoch >= epoch}

    def stop(self) -> None:
        """The worker stops: every rule ends."""
        for rule_id in list(self._held):
            self._drop(rule_id, "the worker stops")

    def known(self) -> dict[str, Rule]:
        """The published rules that have not ended, for whomever."""
        self._known = {i: rule for i, rule in self._known.items() if self._left_s(rule) > 0}
        return dict(self._known)

    def stale(self) -> list[str]:
        """Keys that stand in the topic and mean nothing any more."""
        return sorted(self._keys - self.known().keys())

    def note(self) -> dict[str, Any]:
        """What acknowledgements and /status say: the rules in force here and their hits."""
        return {
            rule_id: {
                "version": held.rule.version,
                "fault": held.rule.fault,
                "seen": held.hits.seen,
                "struck": held.hits.struck,
                "expires_at": held.rule.expires_at.isoformat(),
            }
            for rule_id, held in self._held.items()
        }

    def take_hits(self) -> list[tuple[Rule, dict[str, int]]]:
        """Strikes by place since the last call, those of ended rules included."""
        told = [(held.rule, held.hits.take()) for held in (*self._held.values(), *self._ended)]
        self._ended.clear()
        return [(rule, places) for rule, places in told if places]

    def _take_up(self, rule: Rule) -> str:
        kind = self._kinds.get(rule.fault)
        if kind is None:
            return f"unknown fault {rule.fault!r}"
        if kind.roles and self._app.role.name not in kind.roles:
            return ""
        if len(self._held) >= self._app.settings.chaos_rules_max:
            return f"more than chaos_rules_max = {self._app.settings.chaos_rules_max} rules"
        left_s = self._left_s(rule)
        hits = Hits(rule, ends_at_s=self._monotonic() + left_s, clock=self._monotonic)
        try:
            kind.read_params(rule.params)
            active = kind.build(rule, hits, self._app)
        except (ValueError, msgspec.ValidationError) as error:
            return str(error)
        try:
            active.start()
        except Exception as error:
            active.stop()
            return f"{type(error).__name__}: {error}"
        timer = self._later(left_s, lambda: self._expire(rule))
        self._held[rule.id] = Held(rule, hits, active, timer)
        metrics.FAULT_ACTIVE.child(rule.fault).inc()
        log.warning("chaos.rule_on", rule=rule.id, fault=rule.fault, left_s=round(left_s, 3))
        return ""

    def _expire(self, rule: Rule) -> None:
        held = self._held.get(rule.id)
        if held is not None and held.rule.version == rule.version:
            self._drop(rule.id, "its lease has ended")
            self._known.pop(rule.id, None)

    def _drop(self, rule_id: str, why: str) -> None:
        held = self._held.pop(rule_id, None)
        if held is None:
            return
        held.timer.cancel()
        held.hits.end()
        try:
            held.active.stop()
        except Exception as error:
            log.error("chaos.rule_stuck", rule=rule_id, fault=held.rule.fault, error=error)
        self._ended.append(held)
        metrics.FAULT_ACTIVE.child(held.rule.fault).dec()
        log.warning("chaos.rule_off", rule=rule_id, why=why, struck=held.hits.struck)

    def _left_s(self, rule: Rule) -> float:
        return min(rule.expires_at.timestamp() - self._wall(), rule.ttl_s)
