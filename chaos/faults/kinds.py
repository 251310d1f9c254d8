"""The fault kinds that a chaos rule may name: each with what it takes and where it acts.

A kind is made for one rule by `build` and is in force between `start` and `stop`. It asks the
rule's `Hits` of everything that passes its seam. Neither `start` nor `stop` may wait.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from app.delivery import App
    from chaos.control.hits import Hits
    from chaos.control.rule import Rule


class Active(Protocol):
    """A fault that a worker has for one rule."""

    def start(self) -> None:
        """Put it in force; raises ValueError when this worker cannot have it."""

    def stop(self) -> None:
        """Take it away at once, whatever it was doing; harmless when called twice."""


@dataclass(frozen=True)
class Kind:
    """One fault kind. `scope` are the fields of a rule's scope that narrow it, besides roles and
    workers; `roles` are those that can show it; `conflicts` are kinds that must not be in force
    where it is, by name. `loses`: a delivery may be lost by it.
    """

    name: str
    meaning: str
    params: type[msgspec.Struct]
    scope: frozenset[str]
    roles: frozenset[str]
    conflicts: frozenset[str]
    build: Callable[[Rule, Hits, App], Active]
    loses: bool = False

    def read_params(self, given: dict[str, Any]) -> msgspec.Struct:
        """The parameters, with their defaults. Raises ValueError with what is wrong."""
        return msgspec.convert(given, self.params)


KINDS: Mapping[str, Kind] = MappingProxyType({})
UNSAFE_TO_LOSE: frozenset[str] = frozenset()
