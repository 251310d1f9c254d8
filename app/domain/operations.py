"""What an operator may do to a saga, and what comes of it: pure.

- retry: send the outstanding command again, marked so that its participant really tries, and await
  it like a new one;
- resume: await the answer of a dead-lettered command again, because somebody redrives the letter;
- compensate: undo what was done, or may have been; the order ends CANCELLED with reason `operator`;
- skip: give up what must succeed but cannot: a compensation, or a step after the pivot.

A forward payment, inventory or shipping command is never skipped: the saga would go on with what
nobody has. Every request names the version that its operator looked at. What is refused, for its
version or because it is illegal, changes nothing but the history, which tells it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

import msgspec

from app.domain.decision import Applied
from app.domain.definition import State
from app.domain.moves import (
    Draft,
    compensate_next,
    must_succeed,
    replaced,
    resume,
    start,
    turn_back,
)
from app.domain.record import Saga
from app.messages.orders import OrderOperate

Action = Literal["retry", "skip", "compensate", "resume"]
ACTIONS: tuple[Action, ...] = get_args(Action)

REFUSED = "operator_refused"
EVENTS: Mapping[str, str] = MappingProxyType(
    {
        "retry": "operator_retried",
        "skip": "operator_skipped",
        "compensate": "operator_compensated",
        "resume": "operator_resumed",
    }
)
"""Action to the line of history that tells it was done."""
OPERATED = frozenset({REFUSED, *EVENTS.values()})

REFUSALS: Mapping[str, str] = MappingProxyType(
    {
        "over": "the order has ended and nothing is outstanding",
        "under_review": "the order waits for its review: approve or reject it there",
        "deadline_runs": "its deadline never stopped: wait, or retry to send the command now",
        "past_pivot": "the order is shipped and can only be completed: retry, or skip the commit",
        "turning_back": "it is being compensated already: retry the compensation, or skip it",
        "forward_step": "a forward command is never skipped: retry it, or compensate the order",
        "reason_missing": "a skip needs a reason: it is audited as a waiver",
        "stale_version": "the saga has moved since: look at it again and decide anew",
    }
)
"""Why an action is refused, with what to do instead."""


def legal(saga: Saga, action: str) -> str:
    """Return why `action` is not possible on this record (a key of REFUSALS), empty when it is."""
    index = saga.current()
    if index is None:
        return "under_review" if saga.state is State.REVIEW else "over"
    if action == "resume" and saga.steps[index].status != "PARKED":
        return "deadline_runs"
    if action == "compensate" and saga.past_pivot:
        return "past_pivot"
    if action == "compensate" and saga.reason:
        return "turning_back"
    if action == "skip" and not must_succeed(saga, index):
        return "forward_step"
    return ""


def possible(saga: Saga) -> tuple[Action, ...]:
    """Return what an operator can do to this record."""
    return tuple(action for action in ACTIONS if not legal(saga, action))


def operate(draft: Draft, saga: Saga, body: OrderOperate) -> Applied:
    """Do what the operator asks, or tell in the history why not; the record moves either way."""
    refusal = _refusal(saga, body)
    if refusal:
        draft.note(saga, REFUSED, f"{body.action} by {body.operator}: {refusal}")
        return draft.applied(saga)
    index = saga.current()
    assert index is not None, "nothing is legal while nothing is outstanding"
    why = f": {body.reason}" if body.reason else ""
    # the auditor reads the first word of it
    told = f"{saga.outstanding} by {body.operator}{why}"
    draft.note(saga, EVENTS[body.action], told)
    match body.action:
        case "retry":
            return draft.applied(draft.send_anew(resume(draft, saga, index), index))
        case "resume":
            return draft.applied(draft.wait(resume(draft, saga, index), index))
        case "compensate":
            return draft.applied(turn_back(draft, saga, "operator"))
        case "skip":
            return draft.applied(_skip(draft, saga, index))


def _refusal(saga: Saga, body: OrderOperate) -> str:
    if body.expected_version != saga.version:
        return f"stale_version (saw {body.expected_version}, it is {saga.version})"
    if body.action == "skip" and not body.reason.strip():
        return "reason_missing"
    return legal(saga, body.action)


def _skip(draft: Draft, saga: Saga, index: int) -> Saga:
    """Go on as if the command had succeeded, and remember that it has not."""
    undoing = saga.steps[index].status == "COMPENSATING"
    record = msgspec.structs.replace(
        saga.steps[index], status="COMPENSATED" if undoing else "DONE", skipped=True
    )
    saga = replaced(saga, index, record)
    return compensate_next(draft, saga) if undoing else start(draft, saga, index + 1)
