"""What a participant's result does to its saga: pure.

A result answers one attempt at a step or at its compensation, known by the id of the command it
answers; what answers an earlier attempt, or tells nothing new of the step, is stale. A success with
a higher state version than the saga has seen is a late truth: of a step that was undone it is
undone again.
"""

from __future__ import annotations

import msgspec

from app.domain.decision import Decision, Ignored, Illegal
from app.domain.definition import COMPENSATION, FORWARD, Kind, Result, State
from app.domain.moves import (
    Draft,
    compensate_again,
    compensate_next,
    flag,
    replaced,
    start,
    timer,
    turn_back,
    with_step,
)
from app.domain.record import Saga, attempt_of


def reported(draft: Draft, body: Result) -> Decision:
    """Decide what a participant says of the step that its command belongs to. Raises nothing."""
    saga = draft.before
    if saga is None:
        return Illegal("unknown_order")
    for index, step in enumerate(saga.plan.steps):
        if not isinstance(body, step.result):
            continue
        record = saga.steps[index]
        if body.operation == step.operation:
            known = attempt_of(saga.order_id, step, FORWARD, record.attempt, body.command_id)
            if record.status == "WAITING" or known < 0:
                return Illegal("step_not_started" if known >= 0 else "foreign_command")
            if known < record.attempt:
                return Ignored("earlier_attempt")
            return _forward_result(draft, saga, index, body)
        if step.compensation is not None and body.operation == step.compensation.operation:
            latest = record.compensation_attempt
            known = attempt_of(saga.order_id, step, COMPENSATION, latest, body.command_id)
            if known < 0:
                return Illegal("foreign_command")
            if known < latest:
                return Ignored("earlier_attempt")
            return _compensation_result(draft, saga, index, body)
    return Illegal("no_such_step")


def _forward_result(draft: Draft, saga: Saga, index: int, body: Result) -> Decision:
    step, record = saga.plan.steps[index], saga.steps[index]
    succeeded = body.outcome in step.success
    possible = succeeded or body.outcome in step.failures or step.kind is Kind.RETRIABLE
    if not possible and body.outcome not in ("RETRYING", "PARKED"):
        return Illegal("impossible_outcome")
    match record.status:
        case "SENT" | "PARKED":
            return _answered(draft, saga, index, body)
        case "COMPENSATED" if record.skipped:
            return Ignored("skipped")
        case "FAILED" | "COMPENSATED" if succeeded and body.state_version > record.state_version:
            return _late_success(draft, saga, index, body)
        case "COMPENSATING" if succeeded and body.state_version > record.state_version:
            # Perhaps it happened after the compensation did: the confirmation's version will tell.
            return draft.applied(with_step(saga, index, "COMPENSATING", body))
        case "DONE" if body.outcome in step.failures and not saga.reason:
            stale = body.state_version <= record.state_version
            return Ignored("stale") if stale else Illegal("failed_after_success")
        case _:
            return Ignored("stale")


def _answered(draft: Draft, saga: Saga, index: int, body: Result) -> Decision:
    step, record = saga.plan.steps[index], saga.steps[index]
    if body.outcome in step.success:
        saga = with_step(saga, index, "DONE", body)
        return draft.applied(start(draft, saga, index + 1))
    if body.outcome in step.failures:
        saga = with_step(saga, index, "FAILED", body)
        if body.reason:
            draft.note(saga, f"{step.name}_failed", body.reason)
        return draft.applied(turn_back(draft, saga, step.failures[body.outcome]))
    if step.kind is Kind.RETRIABLE:
        return _pending(draft, saga, index, body)
    if record.status == "PARKED":
        return Ignored("parked")
    if body.outcome == "RETRYING":
        draft.note(saga, "retrying", body.reason)
        return draft.applied(draft.wait(saga, index, after=body.due_at))
    saga = with_step(saga, index, "PARKED", body)
    saga = draft.enter(saga, State.PARKED, body.reason or f"{step.name}_dead_lettered")
    return draft.applied(timer(saga, None))


def _compensation_result(draft: Draft, saga: Saga, index: int, body: Result) -> Decision:
    step, record = saga.plan.steps[index], saga.steps[index]
    if record.status != "COMPENSATING":
        sent = record.status == "COMPENSATED" or record.compensation_attempt > 0
        return Ignored("stale") if sent else Illegal("never_compensated")
    if body.outcome != "OK":
        return _pending(draft, saga, index, body)
    draft.note(saga, "compensated", step.name)
    late = body.state_version < record.state_version
    saga = with_step(saga, index, "COMPENSATED", body)
    if late:
        return draft.applied(compensate_next(draft, compensate_again(draft, saga, index)))
    return draft.applied(compensate_next(draft, saga))


def _pending(draft: Draft, saga: Saga, index: int, body: Result) -> Decision:
    """A command that must succeed has not yet: keep its timer going, and say so."""
    step, record = saga.plan.steps[index], saga.steps[index]
    if body.outcome == "RETRYING":
        draft.note(saga, "retrying", body.reason)
        return draft.applied(draft.wait(saga, index, after=body.due_at))
    if body.outcome == "PARKED":
        saga = flag(draft, saga, body.reason or f"{step.name}_dead_lettered")
        return draft.applied(draft.wait(saga, index))
    draft.note(saga, "refused", body.reason or step.name)
    if record.status == "COMPENSATING":
        again = msgspec.structs.replace(
            record, compensation_attempt=record.compensation_attempt + 1
        )
    else:
        again = msgspec.structs.replace(record, attempt=record.attempt + 1)
    saga = replaced(saga, index, again)
    return draft.applied(draft.wait(saga, index))


def _late_success(draft: Draft, saga: Saga, index: int, body: Result) -> Decision:
    compensated = saga.steps[index].status == "COMPENSATED"
    saga = with_step(saga, index, "DONE", body)
    if compensated:
        saga = compensate_again(draft, saga, index)
    else:
        draft.note(saga, "late_success", saga.plan.steps[index].name)
    if saga.current() is not None:
        return draft.applied(saga)
    return draft.applied(compensate_next(draft, saga))
