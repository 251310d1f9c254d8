"""An experiment: a Chaos Toolkit file, what is ours in it, and what it will do for a seed. Pure.

What is ours stands in the extension `chaos-symphony` and in `configuration`, so that the stock
`chaos run` takes the same file, `--var` included.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from chaos.gameday.activities import INJECTING, arguments_of, at_of, func_of
from chaos.gameday.guard import Limits
from chaos.gameday.source import Mistake, in_words
from chaos.gameday.verdict import Word
from chaos.observe.exam import AlertName, Expected, Sheet
from chaos.workload.mix import DEFAULT_MIX, Outcome

EXTENSION = "chaos-symphony"

NAME = Annotated[str, msgspec.Meta(min_length=1)]


class Knobs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The experiment's `configuration`: what a run may override.

    Orders come at `rate_per_s` from the beginning to the end. They flow for `warm_up_s` before the
    first look; faults happen within `duration_s`; `recovery_s` is how long the steady state may
    take to come back. Same `seed`, same orders, same victims.
    """

    rate_per_s: Annotated[float, msgspec.Meta(ge=0.5, le=2_000)] = 20.0
    duration_s: Annotated[float, msgspec.Meta(ge=1, le=3_600)] = 60.0
    warm_up_s: Annotated[float, msgspec.Meta(ge=0, le=600)] = 8.0
    recovery_s: Annotated[float, msgspec.Meta(ge=1, le=1_800)] = 90.0
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 1


class Ours(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The extension `chaos-symphony`. `no_alerts_because`: why no alert has to fire."""

    name: str
    hypothesis: NAME
    scenario: NAME
    expected: Word = "passed"
    mix: dict[str, Annotated[float, msgspec.Meta(ge=0)]] = {}
    orders_min: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 50
    needs: list[str] = []
    guard: Limits = Limits()
    alerts: list[Expected] | None = None
    tolerated: list[AlertName] = []
    silent: list[AlertName] = []
    no_alerts_because: str = ""
    exam: Literal["optional", "required"] = "optional"

    @property
    def sheet(self) -> Sheet | None:
        """What the alert exam asks; None when the experiment says nothing of alerts."""
        if self.alerts is None and not self.silent:
            return None
        return Sheet(tuple(self.alerts or ()), frozenset(self.tolerated), tuple(self.silent))


class Strike(NamedTuple):
    """One fault that is planned: when it begins, in seconds from the method's beginning."""

    name: str
    action: str
    begins_s: float
    arguments: Mapping[str, Any]


class Experiment(NamedTuple):
    """A valid experiment; `data` is the whole file as Chaos Toolkit takes it."""

    name: str
    path: Path
    data: dict[str, Any]
    ours: Ours
    knobs: Knobs

    @property
    def title(self) -> str:
        """Its title in one line."""
        return str(self.data["title"])

    @property
    def mix(self) -> dict[Outcome, float]:
        """Shares of the classes of orders."""
        return {Outcome(name): share for name, share in self.ours.mix.items()} or DEFAULT_MIX

    def with_overrides(self, overrides: Mapping[str, Any]) -> Experiment:
        """The same with other knobs. Raises Mistake naming the one that cannot be."""
        given = {name: value for name, value in overrides.items() if value is not None}
        try:
            knobs = msgspec.convert({**msgspec.structs.asdict(self.knobs), **given}, Knobs)
        except msgspec.ValidationError as error:
            raise Mistake(self.path, 1, in_words(error)) from None
        return self._replace(knobs=knobs)

    def plan(self) -> list[Strike]:
        """What will be broken and when: a function of file, duration and seed."""
        return sorted(
            (
                Strike(one["name"], func, at_of(one) * self.knobs.duration_s, arguments_of(one))
                for one in self.data["method"]
                if (func := func_of(one)) in INJECTING
            ),
            key=lambda strike: strike.begins_s,
        )

    @property
    def digest(self) -> str:
        """A hash of all that decides what a run does."""
        whole = [self.data, msgspec.to_builtins(self.knobs)]
        return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()
