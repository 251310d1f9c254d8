"""The saga of an order: what happens next, as a function of what is recorded and what arrived.

Theory of operation
===================

`decide(saga, event, now)` is total and has no side effects. It answers one of three things:

- `Applied`: the next record (version + 1), the commands to send, the history to write;
- `Ignored`: a duplicate or a stale reply; nothing changes;
- `Illegal`: the event is impossible in this state; nothing changes, the caller parks the event and
  alerts.

The steps are data (`app.domain.definition`). Going forward, one step at a time is outstanding:

    WAITING -> SENT -> DONE                   its success starts the next step
                    -> FAILED                 it did not happen: compensate the steps before it
                    -> PARKED -> DONE ...     dead-lettered: no deadline, an operator must act

As soon as `reason` is set, the order is known not to complete and the saga goes backward: every
step that was done, *or may have been done*, is compensated, last step first, one at a time:

    DONE | SENT | PARKED -> COMPENSATING -> COMPENSATED

Why an unknown step may be compensated: a compensation that arrives first leaves a tombstone at the
participant, which the late command finds. So no timeout needs to know what really happened.

The pivot divides the two directions. Until its success is recorded here a cancellation wins;
afterwards it is refused, and the remaining steps are repeated until they work. What is recorded
*here*, under the version guard, decides the race; the loser reads it in the order's history.

Deadlines. `due` is when somebody must act; `next_due` is what a due heap holds, `timeout` the event
it feeds back. A step that stays silent is re-driven under the same command id (so the participant
repeats its answer, never its effect), later and later, `redrives_max` times; then it is
compensated. Compensations, and steps after the pivot, cannot be given up: they are re-driven for
ever, and after `compensation_attempts_max` tries the order is flagged PARKED so that a person
looks. RETRYING moves the deadline past the participant's next attempt. PARKED stops it for a step
that still may be compensated; the redriven command's OK then resumes the saga where it stood.

Results. What a participant's answer does, in each status of its step, is `app.domain.results`. Late
truths: a step that failed or was compensated can still report success, with a higher state version
than the saga has seen: its compensation is sent (again, under a new attempt number), even when the
order is already CANCELLED. Its status does not change, but the saga is not settled until that
compensation is confirmed.

Operators. What they may do to a saga that waits for a person, or for ever, is
`app.domain.operations`. Each request names the version its operator saw, so it is applied to
what was seen or refused; both are told in the history.

A cancellation that overtakes the creation leaves a stub: a CANCELLED saga without steps taken. The
creation finds it, fills it in, and starts nothing. A review that overtakes it leaves one as well:
REJECTED, or in REVIEW and approved, which the creation starts.

What the caller owes. The record in hand may be a stale copy. An `Applied` must be stored under
`WHERE version = saga.version`; when that misses, and before any `Ignored` or `Illegal` is believed
of a copy that is not the authority, load the authority's record and decide again.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from app.domain.decision import (
    Applied,
    Command,
    Decision,
    Ignored,
    Illegal,
    Incoming,
    SagaEvent,
    StepTimedOut,
    Transition,
    next_due,
    status_changes,
    timeout,
)
from app.domain.definition import DEFAULT_POLICY, DEFINITIONS, Policy, State
from app.domain.moves import Draft, command_of, flag, must_succeed, start, turn_back
from app.domain.operations import operate
from app.domain.record import SCHEMA, Saga, StepRecord, from_bytes, to_bytes
from app.domain.results import reported
from app.messages.inventory import InventoryResult
from app.messages.orders import OrderCancel, OrderCreated, OrderOperate, OrderReviewed
from app.messages.payments import PaymentResult
from app.messages.shipping import ShippingResult

__all__ = [
    "Applied",
    "Command",
    "Decision",
    "Ignored",
    "Illegal",
    "Incoming",
    "Policy",
    "Saga",
    "SagaEvent",
    "State",
    "StepTimedOut",
    "Transition",
    "decide",
    "from_bytes",
    "next_due",
    "redrive",
    "status_changes",
    "timeout",
    "to_bytes",
]


def decide(
    saga: Saga | None,
    event: SagaEvent,
    now: datetime,
    *,
    policy: Policy = DEFAULT_POLICY,
    jitter: float = 0.0,
) -> Decision:
    """Decide one event on an order's saga (None: nothing is recorded). Raises nothing.

    `now` is aware UTC; `jitter` from 0 to 1 lengthens the wait that is set, so that the deadlines
    of a burst of orders spread out.
    """
    body = event.body
    if saga is not None and (alien := _alien(saga, body)):
        return Illegal(alien)
    draft = Draft(saga, event, now, policy, jitter)
    match body:
        case OrderCreated():
            return _created(draft, body)
        case OrderCancel():
            return _cancel_asked(draft, body)
        case OrderReviewed():
            return _reviewed(draft, body)
        case OrderOperate():
            return Illegal("unknown_order") if saga is None else operate(draft, saga, body)
        case StepTimedOut():
            return _timed_out(draft, body)
        case PaymentResult() | InventoryResult() | ShippingResult():
            return reported(draft, body)
        case _:
            return Illegal("not_a_saga_event")


def _alien(saga: Saga, body: Any) -> str:
    """Say why this event and this record do not belong together, empty when they do."""
    if getattr(body, "order_id", None) != saga.order_id:
        return "another_order"
    return "" if saga.definition in DEFINITIONS else "unknown_definition"


def redrive(saga: Saga, now: datetime, *, policy: Policy = DEFAULT_POLICY) -> tuple[Command, ...]:
    """Return the outstanding command again: same id, `not_after` counted from `now`.

    The record does not change. Empty when nothing is outstanding, and for a parked step, which only
    an operator has sent again.
    """
    index = saga.current()
    if index is None or saga.steps[index].status == "PARKED":
        return ()
    return (command_of(saga, index, now, policy),)


def _created(draft: Draft, body: OrderCreated) -> Decision:
    saga = draft.before
    if saga is not None and saga.created:
        same = (saga.total_minor, saga.currency) == (body.total_minor, body.currency)
        return Ignored("already_created") if same else Illegal("created_differently")
    if saga is None:
        saga = _blank(draft, body.order_id, State.REVIEW)
    filled = msgspec.structs.replace(
        saga,
        created=True,
        review=body.review,
        total_minor=body.total_minor,
        currency=body.currency,
        lines=tuple((item.product_id, item.quantity) for item in body.items if item.tracked),
        address=body.shipping_address,
        correlation_id=draft.event.correlation_id,
        traceparent=draft.event.traceparent,
        started_at=draft.now,
        ordered_at=body.created_at,
    )
    if filled.final:
        how = "rejected" if filled.state is State.REJECTED else "cancelled"
        draft.note(filled, "created", f"{how} before its creation arrived")
        return draft.applied(filled)
    if filled.approved:
        draft.note(filled, "created", "approved before its creation arrived")
        return draft.applied(start(draft, msgspec.structs.replace(filled, approved=False), 0))
    if body.review:
        draft.begin(filled, "created")
        return draft.applied(filled)
    first = filled.plan.steps[0].state
    filled = msgspec.structs.replace(filled, state=first)
    draft.begin(filled, "created")
    return draft.applied(start(draft, filled, 0))


def _cancel_asked(draft: Draft, body: OrderCancel) -> Decision:
    saga = draft.before
    reason = "customer" if body.requested_by == "customer" else "operator"
    if saga is None:
        stub = _blank(draft, body.order_id, State.CANCELLED)
        stub = msgspec.structs.replace(stub, created=False, reason=reason, cancel="requested")
        # The first line is announced: with the reason's word, not with what the asker wrote.
        draft.begin(stub, "cancel_requested", reason)
        draft.note(stub, "cancelled", body.reason)
        return draft.applied(stub)
    if saga.state in (State.CANCELLED, State.REJECTED):
        return Ignored("already_final")
    if saga.cancel:
        return Ignored("already_asked")
    draft.note(saga, "cancel_requested", body.reason)
    if saga.past_pivot:
        draft.note(saga, "cancel_refused", "shipped")
        return draft.applied(msgspec.structs.replace(saga, cancel="refused"))
    saga = msgspec.structs.replace(saga, cancel="requested")
    if saga.reason:
        return draft.applied(saga)
    return draft.applied(turn_back(draft, saga, reason))


def _reviewed(draft: Draft, body: OrderReviewed) -> Decision:
    saga = draft.before
    if saga is None:
        saga = _blank(draft, body.order_id, State.REVIEW)
        saga = msgspec.structs.replace(saga, created=False, review=True)
        draft.begin(saga, "reviewed", body.reason)
    elif not saga.created:
        return Ignored("already_decided")
    elif saga.state is not State.REVIEW:
        return Ignored("already_decided") if saga.review else Illegal("not_under_review")
    if not body.approved:
        draft.note(saga, "rejected_by", body.reviewed_by)
        saga = msgspec.structs.replace(saga, reason="fraud")
        return draft.applied(draft.enter(saga, State.REJECTED, "fraud"))
    draft.note(saga, "approved_by", body.reviewed_by)
    if not saga.created:
        return draft.applied(msgspec.structs.replace(saga, approved=True))
    return draft.applied(start(draft, saga, 0))


def _timed_out(draft: Draft, body: StepTimedOut) -> Decision:
    saga = draft.before
    if saga is None:
        return Ignored("unknown_order")
    index = saga.current()
    if saga.due is None or index is None or body.timer != saga.timer:
        return Ignored("stale_timer")
    if draft.now < saga.due:
        return Ignored("not_due")
    step, tries = saga.plan.steps[index], saga.tries + 1
    if must_succeed(saga, index):
        if tries > draft.policy.compensation_attempts_max:
            saga = flag(draft, saga, f"{step.name}_unanswered")
        else:
            draft.note(saga, "redriven", step.name)
        return draft.applied(draft.send_again(saga, index))
    if tries <= draft.policy.redrives_max:
        draft.note(saga, "redriven", step.name)
        return draft.applied(draft.send_again(saga, index))
    draft.note(saga, "timed_out", step.name)
    return draft.applied(turn_back(draft, saga, "timeout"))


def _blank(draft: Draft, order_id: str, state: State) -> Saga:
    plan = DEFINITIONS[draft.policy.definition]
    return Saga(
        schema=SCHEMA,
        definition=plan.name,
        order_id=order_id,
        version=0,
        state=state,
        reason="",
        steps=tuple(StepRecord() for _ in plan.steps),
        correlation_id=draft.event.correlation_id,
        traceparent=draft.event.traceparent,
        started_at=draft.now,
    )
