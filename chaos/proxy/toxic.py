"""A toxic of a proxy: what was asked for, and which connections it applies to."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec

from chaos.proxy.lease import Lease
from chaos.proxy.toxics import KINDS
from chaos.proxy.toxics.stage import Attributes, Stage


class Strength(msgspec.Struct, frozen=True):
    """What an update may change."""

    attributes: Attributes
    toxicity: float


@dataclass
class Toxic:
    """`number` is its rank among the proxy's toxics; `before` what a lease brings back."""

    number: int
    name: str
    kind: str
    stream: str
    strength: Strength
    seed: str
    lease: Lease | None = None
    before: Strength | None = None

    def document(self) -> dict[str, object]:
        """As the API shows it; `lease_ms_left` only while there is a lease."""
        shown: dict[str, object] = {
            "attributes": msgspec.to_builtins(self.strength.attributes),
            "name": self.name,
            "type": self.kind,
            "stream": self.stream,
            "toxicity": self.strength.toxicity,
        }
        if self.lease is not None:
            shown["lease_ms_left"] = self.lease.ms_left
        return shown

    def applies_to(self, connection: int) -> bool:
        """Decided by seed, names and the connection's number alone; monotone in toxicity."""
        return self._random(connection).random() < self.strength.toxicity

    def stage(self, connection: int, now: float) -> Stage[Any]:
        """Its part in one connection."""
        rng = self._random(connection)
        rng.random()  # the draw of `applies_to`
        return KINDS[self.kind](self.strength.attributes, rng, now)

    def _random(self, connection: int) -> Random:
        return Random(f"{self.seed}/{self.name}/{self.stream}/{connection}")
