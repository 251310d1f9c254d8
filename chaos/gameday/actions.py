"""What the method of an experiment may do: Chaos Toolkit actions, to be run under our control.

Each returns plain data for the journal. The control (`chaos.gameday.control`) makes the GameDay
that they act on; without it they refuse.
"""

from __future__ import annotations

from typing import Any

from chaos.gameday import session


def inject(
    fault: str,
    target: str = "",
    at: float = 0.0,
    for_s: float | None = None,
    params: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Break something from outside with proof: a fault of docs/faults.md.

    It begins at the share `at` of the duration and lasts `for_s`, by default as long as that kind
    does. Without a `target` the seed chooses among those that are possible.
    """
    return session.current().inject(fault, target, at, for_s, params or {})


def hold() -> dict[str, Any]:
    """Let orders flow under the guard until the duration is over or the GameDay is aborted."""
    return session.current().hold()


def recover() -> dict[str, Any]:
    """End all faults and wait until the steady state has come back, at most `recovery_s`."""
    return session.current().recover()


def end_faults() -> dict[str, Any]:
    """End whatever is still broken; harmless to repeat."""
    return session.current().end_faults()
