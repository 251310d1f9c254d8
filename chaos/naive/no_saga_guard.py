"""Plug-in: the orchestrator lets any success move an order on, whatever state the order is in.

Cure removed: the guard that takes a reply to an undone step for stale.
Hurts when: a payment's success arrives after the order was cancelled and refunded.
Breaks: O5 (a history that goes on after its end), and what follows: P2 (completed, yet refunded),
P3, P4, O7 (ends as its class must not), S3, H1, H2, O4.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from app.domain import batch
from app.domain.decision import Decision, SagaEvent
from app.domain.definition import DEFAULT_POLICY, Policy
from app.domain.record import Saga
from app.domain.saga import decide
from app.messages import PaymentResult
from chaos.naive.loud import replace, unsafe

if TYPE_CHECKING:
    from app.delivery import App

UNDONE = ("COMPENSATING", "COMPENSATED", "FAILED")


def decide_without_guard(
    saga: Saga | None,
    event: SagaEvent,
    now: datetime,
    *,
    policy: Policy = DEFAULT_POLICY,
    jitter: float = 0.0,
) -> Decision:
    """Extends the decision: CHARGED means "go on with inventory", always."""
    body = event.body
    late = (
        saga is not None
        and isinstance(body, PaymentResult)
        and body.operation == "charge"
        and body.outcome == "OK"
        and saga.steps[0].status in UNDONE
    )
    if saga is not None and late:
        first = msgspec.structs.replace(saga.steps[0], status="SENT")
        saga = msgspec.structs.replace(saga, steps=(first, *saga.steps[1:]), reason="")
    return decide(saga, event, now, policy=policy, jitter=jitter)


def install(app: App) -> None:
    """Take the guard from the orchestrator's decisions."""
    if unsafe(app, __name__, "a late reply is stale", "orchestrator"):
        replace(batch, "decide", decide_without_guard)
