"""Chaos rules as faults of a GameDay: made by the API, renewed while they last, deleted after.

A rule's lease is short, whatever its fault's duration is, so that rules die soon after a GameDay
whose process is gone. It is proved by its hits, as the workers count them; a crash is counted by
the worker that follows, for as long as the rule is in force.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from app.settings import load_settings
from chaos.console.api import Api, ApiError
from chaos.control.bodies import RuleIn
from chaos.control.check import Known, Wrong, check
from chaos.control.rule import Rule
from chaos.faults.kinds import KINDS, UNSAFE_TO_LOSE

TTL_S = 15.0
RENEW_S = 5.0
LOOK_S = 0.5
COUNTED_S = 3.0
"""How long after its end the last hits of a rule may still be told."""
MADE_S = 15.0
"""How long an API that does not answer is asked again to make a rule."""
GONE_S = TTL_S + 5.0
OWNER = "gameday"
SIGNED = {"X-Operator": OWNER}
"""Whose acts they are in the audit log; who began the GameDay stands in its own row there."""


class BadRule(ValueError):
    """A rule that could never be made; `member` says which of its arguments is wrong."""

    def __init__(self, member: str, reason: str) -> None:
        super().__init__(reason)
        self.member, self.reason = member, reason


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Raise BadRule for arguments of an action `chaos_rule` that the API would refuse."""
    try:
        wanted = msgspec.convert(_body(arguments, 0), RuleIn)
    except msgspec.ValidationError as error:
        reason, _, pointer = str(error).partition(" - at `$.")
        raise BadRule(pointer.partition(".")[0].rstrip("`"), reason) from None
    rule = Rule(
        id="check",
        fault=wanted.fault,
        scope=wanted.scope,
        p=wanted.p,
        times=wanted.times,
        params=wanted.params,
        ttl_s=TTL_S,
        expires_at=datetime.now(UTC) + timedelta(seconds=TTL_S),
        unsafe=wanted.unsafe,
    )
    routes = {wanted.scope.route} - {""}  # which routes there are, the lab's API knows
    try:
        check(rule, Known(KINDS, UNSAFE_TO_LOSE, routes), load_settings(), datetime.now(UTC))
    except Wrong as error:
        member = error.pointer.removeprefix("$.").partition(".")[0].removeprefix("$")
        raise BadRule(member, error.detail) from None


def _body(arguments: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """What the API is asked for."""
    names = ("fault", "scope", "p", "times", "params", "unsafe")
    given = {name: arguments[name] for name in names if arguments.get(name) is not None}
    return {**given, "seed": seed, "ttlS": TTL_S, "owner": OWNER}


def target_text(scope: Mapping[str, Any]) -> str:
    """A rule's scope in words."""
    told = [", ".join(value) if isinstance(value, list) else str(value) for value in scope.values()]
    return " ".join(told) or "everywhere"


class LeasedRule:
    """One rule of a running lab: `make` it, `hold` it for as long as it is to last, then `end` it,
    whatever became of the two. Once `stop` is set it ends as soon as it can.
    """

    def __init__(
        self,
        url: str,
        rule_id: str,
        arguments: Mapping[str, Any],
        seed: int,
        stop: threading.Event,
    ) -> None:
        self._api, self.id, self._stop = Api(url), rule_id, stop
        self._body = _body(arguments, seed)
        self._path = f"/api/chaos/rules/{rule_id}"
        self._struck = 0
        self._refused = False
        self._lease_until_s = 0.0
        self._pending: list[str] = []

    def make(self, reason: str) -> None:
        """Put it in force. Raises ApiError when the API refuses it, or does not answer for long:
        then nobody knows whether it is in force. It is asked again meanwhile, for the worker that
        is to answer may be the one that crashes.
        """
        self._body["reason"] = reason[:200]
        deadline, doubtful = time.monotonic() + MADE_S, False
        while not (doubtful and self._stands()):
            try:
                self._pending = list(self._put()["pending"])
            except ApiError as error:
                refused = 400 <= error.status < 500
                self._refused = refused and not doubtful
                if refused or time.monotonic() > deadline or self._stop.wait(LOOK_S):
                    raise
                doubtful = True
            else:
                return

    def hold(self, for_s: float) -> None:
        """Keep it in force for so long; an API that is away is asked again."""
        until = time.monotonic() + for_s
        renew = time.monotonic() + RENEW_S
        while not self._stop.is_set() and (now := time.monotonic()) < until:
            if now >= renew and until - now > RENEW_S / 2:
                renew = now + RENEW_S
                self._renew()
            self._stop.wait(min(LOOK_S, max(0.0, until - now)))

    def end(self) -> bool:
        """Delete it, or wait for the end of its lease; whether it is gone."""
        if self._refused:
            return True
        self._struck += self._hits()
        if self._body["fault"] == "crash" and not self._struck:
            self._await_follower()
        deadline = time.monotonic() + GONE_S
        while time.monotonic() < deadline:
            try:
                self._api.delete(f"{self._path}?reason=over", SIGNED)
            except ApiError as error:
                if error.status == 404:
                    return True
            else:
                return True
            time.sleep(LOOK_S)
        return False

    def evidence(self) -> str:
        """What it struck; empty when it struck nothing."""
        if not self._struck:
            return ""
        late = f"; not in force at once in {', '.join(self._pending)}" if self._pending else ""
        return f"{self._struck} struck by rule {self.id}{late}"

    def _renew(self) -> None:
        """Renewing counts anew, so what was struck is asked first."""
        struck = self._hits()
        with contextlib.suppress(ApiError):
            self._put()
            self._struck += struck

    def _await_follower(self) -> None:
        """Leave it in force until a worker that follows one that crashed has told so, or its lease
        is over: that worker needs about 5 s to be back. No renewal: a hit told just before is lost.
        """
        while not self._struck and time.monotonic() < self._lease_until_s:
            if self._stop.is_set():
                return
            self._struck += self._hits()

    def _stands(self) -> bool:
        """Whether the API knows it."""
        try:
            self._api.get(self._path)
        except ApiError:
            return False
        return True

    def _put(self) -> Any:
        """Make it, or renew its lease."""
        self._lease_until_s = time.monotonic() + TTL_S
        return self._api.put(self._path, self._body, SIGNED)

    def _hits(self) -> int:
        """What the rule has struck since it was made or renewed; workers tell it every second."""
        deadline = time.monotonic() + COUNTED_S
        while True:
            with contextlib.suppress(ApiError):
                rules = self._api.get("/api/chaos/status")["rules"]
                found = sum(one["hits"] for one in rules if one["rule"]["id"] == self.id)
                if found or self._struck:
                    return int(found)
            if time.monotonic() > deadline:
                return 0
            time.sleep(LOOK_S)
