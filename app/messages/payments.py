"""Messages between the orchestrator and the payment participant."""

from __future__ import annotations

from typing import ClassVar, Literal

from app.messages.body import Body, Count, Currency, Id, Instant, Text, Total

ChargeOutcome = Literal["OK", "DECLINED", "EXPIRED", "CANCELLED", "RETRYING", "PARKED"]


class PaymentRequested(Body, frozen=True, kw_only=True):
    """Charge the order's total, unless it cannot be started before `not_after`."""

    TOPICS: ClassVar = ("payment.requested", "payment.requested.canary")

    order_id: Id
    amount_minor: Total
    currency: Currency
    not_after: Instant


class PaymentRefund(Body, frozen=True, kw_only=True):
    """Undo the charge made by command `charge_id`, whether or not it was ever carried out."""

    TOPICS: ClassVar = ("payment.refund",)

    order_id: Id
    amount_minor: Total
    currency: Currency
    charge_id: Id


class PaymentResult(Body, frozen=True, kw_only=True):
    """What became of a payment command; RETRYING has the next attempt in `due_at`."""

    TOPICS: ClassVar = ("payment.result",)

    order_id: Id
    command_id: Id
    operation: Literal["charge", "refund"]
    outcome: ChargeOutcome
    reason: Text = ""
    payment_id: Text = ""
    due_at: Instant | None = None
    state_version: Count = 0
