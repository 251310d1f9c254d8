"""The SLO guard: when a GameDay hurts more than it may, it ends. Pure.

A figure that is not known is neither good nor bad: it ends no streak and begins none. But a guard
that sees nothing at all for long ends the GameDay, too: nobody would notice the harm.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec

Positive = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=1, le=10_000)]


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be; None: whatever. The GameDay ends after `bad_max` bad evaluations in a row, one
    every `every_s` over the last `window_s`, or after `blind_max` that saw nothing at all.
    """

    error_ratio_max: Share | None = 0.5
    accept_p95_ms_max: Positive | None = 10_000.0
    backlog_max: Annotated[int, msgspec.Meta(ge=0)] | None = None
    stuck_max: Annotated[int, msgspec.Meta(ge=0)] | None = None
    every_s: Annotated[float, msgspec.Meta(ge=0.2, le=60)] = 1.0
    window_s: Annotated[float, msgspec.Meta(ge=1, le=600)] = 10.0
    bad_max: Count = 10
    blind_max: Count = 60


class Reading(NamedTuple):
    """What was seen at one moment; None is not known.

    `error_ratio` is the share of requests for orders that were not accepted, `accept_p95_ms` counts
    from the intended moment, `backlog` are orders and events that still have to move, `stuck` are
    sagas long past their deadline.
    """

    error_ratio: float | None = None
    accept_p95_ms: float | None = None
    backlog: int | None = None
    stuck: int | None = None


class Evaluation(NamedTuple):
    """One look: what was too much, in words; `blind` when nothing was known."""

    bad: tuple[str, ...]
    blind: bool


class State(NamedTuple):
    """What the guard remembers: bad and blind evaluations in a row, and why it ended the run."""

    bad: int = 0
    blind: int = 0
    abort: str = ""


def evaluate(limits: Limits, reading: Reading) -> Evaluation:
    """Compare a reading with the limits."""
    pairs = (
        ("error ratio", reading.error_ratio, limits.error_ratio_max, ""),
        ("p95 of acceptance", reading.accept_p95_ms, limits.accept_p95_ms_max, " ms"),
        ("backlog", reading.backlog, limits.backlog_max, ""),
        ("stuck sagas", reading.stuck, limits.stuck_max, ""),
    )
    bad = tuple(
        f"{name} {seen:.4g}{unit} is over {limit:.4g}{unit}"
        for name, seen, limit, unit in pairs
        if seen is not None and limit is not None and seen > limit
    )
    return Evaluation(bad, all(seen is None for seen in reading))


def following(state: State, limits: Limits, found: Evaluation, reading: Reading) -> State:
    """What the guard remembers after one more evaluation; once it has ended a run, that stays."""
    if state.abort:
        return state
    if found.blind:
        blind = state.blind + 1
        why = f"nothing could be measured {blind} times in a row"
        return State(state.bad, blind, why if blind >= limits.blind_max else "")
    if found.bad:
        count = state.bad + 1
        why = f"{'; '.join(found.bad)} ({count} times in a row)"
        return State(count, 0, why if count >= limits.bad_max else "")
    doubtful = any(
        seen is None and limit is not None
        for seen, limit in zip(reading, _limits(limits), strict=True)
    )
    return State(state.bad if doubtful else 0, 0)


def _limits(limits: Limits) -> tuple[float | None, ...]:
    return (
        limits.error_ratio_max,
        limits.accept_p95_ms_max,
        limits.backlog_max,
        limits.stuck_max,
    )
