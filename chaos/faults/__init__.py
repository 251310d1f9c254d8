"""What can be done to a worker at a failpoint, by name.

A fault is made by `build(argument)` of its module and strikes by `await strike(hit)`. It knows
nothing of when it strikes: `chaos.rules` decides that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from chaos.faults import crash, delay, error, hang
from chaos.faults.fault import BadFault, Strike

REGISTRY: Mapping[str, Callable[[str], Strike]] = MappingProxyType(
    {"crash": crash.build, "delay": delay.build, "error": error.build, "hang": hang.build}
)


def build(name: str, argument: str) -> Strike:
    """Make fault `name`. Raises BadFault for an unknown name or an argument it does not take."""
    if name not in REGISTRY:
        raise BadFault(f"unknown fault {name!r}; known: {', '.join(sorted(REGISTRY))}")
    return REGISTRY[name](argument)


__all__ = ["REGISTRY", "BadFault", "Strike", "build"]
