"""What stands in the lists of an experiment: its activities, and what of them is ours. Pure.

Reads as far as the form is right, so that a file can be checked which is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from chaos.gameday.source import Place

ACTIONS = "chaos.gameday.actions"
INJECTING = frozenset({"inject", "chaos_rule"})
"""Actions that break something."""


def activities(data: Mapping[str, Any]) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Every activity with its place, as far as the form is right."""
    hypothesis = data.get("steady-state-hypothesis")
    probes = hypothesis.get("probes") if isinstance(hypothesis, dict) else None
    lists: tuple[tuple[Place, Any], ...] = (
        (("steady-state-hypothesis", "probes"), probes),
        (("method",), data.get("method")),
        (("rollbacks",), data.get("rollbacks")),
    )
    for place, listed in lists:
        for number, one in enumerate(listed if isinstance(listed, list) else ()):
            yield (*place, number), one


def func_of(activity: Any) -> str:
    """Which of our actions an activity calls, empty when it calls none."""
    provider = activity.get("provider", {}) if isinstance(activity, dict) else {}
    return str(provider.get("func", "")) if provider.get("module") == ACTIONS else ""


def arguments_of(activity: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an activity's action or probe is called with."""
    found: Mapping[str, Any] = activity["provider"].get("arguments") or {}
    return found


def at_of(activity: Mapping[str, Any]) -> float:
    """At which share of the duration a fault begins; -1 for what is no number."""
    at = arguments_of(activity).get("at", 0.0)
    return float(at) if isinstance(at, int | float) else -1.0
