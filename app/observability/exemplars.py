"""Exemplars: which trace shows what a histogram or counter has just counted.

Only a trace that is recorded is pointed at; without tracing there is none, and asking costs one
comparison.
"""

from __future__ import annotations

from collections.abc import Iterable

from app import trace_context
from app.observability import tracing
from app.observability.families import exemplar


def here() -> dict[str, str] | None:
    """The trace that this task works for."""
    return exemplar(tracing.current_trace_id())


def of(traceparent: str) -> dict[str, str] | None:
    """The trace that `traceparent` names."""
    if not tracing.wants(traceparent):
        return None
    return exemplar(trace_context.trace_id_of(traceparent))


def first_of(traceparents: Iterable[str]) -> dict[str, str] | None:
    """The first trace of many that is recorded: an example of what was done for all of them."""
    return next(filter(None, map(of, traceparents)), None) if tracing.on() else None
