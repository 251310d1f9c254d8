"""The fault kinds that a chaos rule may name: each with what it takes and where it acts.

A kind is made for one rule by `build` and is in force between `start` and `stop`. It asks the
rule's `Hits` of everything that passes its seam. Neither `start` nor `stop` may wait.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol

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


class Kind(NamedTuple):
    """One fault kind.

    `params` is what a rule's `params` must be. `seams` names where it acts; two `exclusive` kinds
    on one seam decide one thing's fate each their way. `roles` is where it can act (empty: in all).
    `scope` holds those members of a rule's scope, beside roles and workers, that it understands.
    `loses`: what it strikes is gone unless somebody sends it again. `by_key`: a rule's `share_max`
    is a share of keys, else of workers.
    """

    name: str
    meaning: str
    params: type[msgspec.Struct]
    seams: frozenset[str]
    build: Callable[[Rule, Hits, App], Active]
    roles: tuple[str, ...] = ()
    scope: frozenset[str] = frozenset()
    loses: bool = False
    exclusive: bool = False
    by_key: bool = True


KINDS: Mapping[str, Kind] = MappingProxyType({})
