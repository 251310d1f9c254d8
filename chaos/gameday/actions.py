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
    return session.current().strikes.inject(fault, target, at, for_s, params or {})._asdict()


def chaos_rule(
    fault: str,
    at: float = 0.0,
    for_s: float = 10.0,
    p: float = 1.0,
    times: int = 0,
    scope: dict[str, Any] | None = None,
    params: dict[str, Any] | None = None,
    unsafe: bool = False,
) -> dict[str, Any]:
    """Have a chaos rule in force for `for_s`: a fault kind of docs/faults.md inside the workers.

    It is made by the API with a short lease that is renewed, and proved by what it struck.
    """
    arguments = {
        "fault": fault,
        "p": p,
        "times": times,
        "scope": scope,
        "params": params,
        "unsafe": unsafe,
    }
    return session.current().strikes.rule(arguments, at, for_s)._asdict()


def hold() -> dict[str, Any]:
    """Let orders flow under the guard until the duration is over or the GameDay is aborted."""
    return session.current().hold()


def recover() -> dict[str, Any]:
    """End all faults and wait until the steady state has come back, at most `recovery_s`."""
    return session.current().recover()


def end_faults() -> dict[str, Any]:
    """End whatever is still broken; harmless to repeat."""
    return session.current().end_faults()
