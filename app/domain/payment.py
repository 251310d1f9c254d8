"""The payment participant: what a charge or a refund does to what is recorded for its order.

A gateway call happens between two transactions, so every decision has two halves. `begin` runs in
the first: it answers at once, or records the intent and returns the call to make. `complete` runs
in the second with the gateway's reply. Whatever stands between them (crash, duplicate, the
compensation of the same order in the same batch), calling `begin` again on the recorded attempt
yields the same call with the same idempotency key.

Rules that make charge and refund commutative per order:

- A refund that finds nothing leaves a tombstone (CANCELLED); the late charge finds it and is
  answered CANCELLED without a call.
- A refund that finds an INTENT cannot know whether the money moved: it first cancels the charge's
  key at the gateway, which afterwards refuses it for ever, and refunds only what was captured.
- Only one attempt exists per order, so at most one charge is ever captured.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from app.errors import Poison
from app.messages.payments import ChargeOutcome, PaymentRefund, PaymentRequested, PaymentResult

Status = Literal[
    "INTENT",  # the charge may have been made
    "CHARGED",
    "DECLINED",
    "EXPIRED",  # tombstone: not started before `not_after`
    "CANCELLING",  # a refund found an INTENT; the key is being cancelled
    "REFUNDING",  # a refund of a captured charge may have been made
    "REFUNDED",
    "CANCELLED",  # tombstone: nothing was captured and nothing will be
]
TOMBSTONES: frozenset[Status] = frozenset({"EXPIRED", "CANCELLED"})
UNDECIDED: frozenset[Status] = frozenset({"INTENT", "CANCELLING", "REFUNDING"})

Operation = Literal["charge", "refund"]
Command = PaymentRequested | PaymentRefund


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """What is recorded of an order's payment; `version` counts its changes from 1.

    `charge_id` and `refund_id` are command ids and the idempotency keys at the gateway.
    """

    order_id: str
    status: Status
    version: int
    charge_id: str
    amount_minor: int
    currency: str
    payment_id: str = ""
    refund_id: str = ""
    reason: str = ""


class Charge(NamedTuple):
    """Call: capture the amount under `key`."""

    key: str
    order_id: str
    amount_minor: int
    currency: str


class Refund(NamedTuple):
    """Call: give back what was captured under `charge_key`.

    With `cancel_first` the charge's key is cancelled before, and the refund under `key` is made
    only when the gateway says that the charge had been captured.
    """

    key: str
    order_id: str
    charge_key: str
    cancel_first: bool


class Charged(NamedTuple):
    """Reply: captured."""

    payment_id: str


class Declined(NamedTuple):
    """Reply: the gateway definitely refused."""

    reason: str


class KeyCancelled(NamedTuple):
    """Reply to a charge: its key was cancelled before."""


class Refunded(NamedTuple):
    """Reply: what was captured was given back."""


class NothingCaptured(NamedTuple):
    """Reply to a refund with `cancel_first`: nothing was captured, and nothing will be."""


Call = Charge | Refund
Reply = Charged | Declined | KeyCancelled | Refunded | NothingCaptured


class Decision(NamedTuple):
    """The attempt to record, and either the result to publish or the call to make.

    `attempt` equal to the given one means that nothing changes. After `complete`, `call` is None.
    """

    attempt: Attempt
    result: PaymentResult | None = None
    call: Call | None = None


def begin(attempt: Attempt | None, command_id: str, body: Command, now: datetime) -> Decision:
    """Decide a command before any call; `attempt` is what is recorded for the order, locked.

    Raises Poison(bad_command) when the amount contradicts the recorded one.
    """
    if isinstance(body, PaymentRequested):
        return _begin_charge(attempt, command_id, body, now)
    return _begin_refund(attempt, command_id, body)


def complete(attempt: Attempt, command_id: str, body: Command, reply: Reply) -> Decision:
    """Decide a command after its call; `attempt` is what is recorded now, read again and locked.

    Another worker may have been faster: then nothing changes and the recorded outcome is answered.
    """
    if isinstance(body, PaymentRequested):
        return _complete_charge(attempt, command_id, reply)
    return _complete_refund(attempt, command_id, reply)


def notice(
    command_id: str,
    body: Command,
    outcome: Literal["RETRYING", "PARKED"],
    *,
    reason: str,
    due_at: datetime | None = None,
) -> PaymentResult:
    """Build the result that says that a command is being retried, or was dead-lettered."""
    return PaymentResult(
        order_id=body.order_id,
        command_id=command_id,
        operation="charge" if isinstance(body, PaymentRequested) else "refund",
        outcome=outcome,
        reason=reason[:200],
        due_at=due_at,
    )


def _begin_charge(
    attempt: Attempt | None, command_id: str, body: PaymentRequested, now: datetime
) -> Decision:
    if attempt is None:
        expired = now > body.not_after
        attempt = Attempt(
            order_id=body.order_id,
            status="EXPIRED" if expired else "INTENT",
            version=1,
            charge_id=command_id,
            amount_minor=body.amount_minor,
            currency=body.currency,
            reason="not_after" if expired else "",
        )
    elif attempt.status not in TOMBSTONES:
        _same_money(attempt, body)
    if attempt.status == "INTENT":
        return Decision(attempt, call=_charge_of(attempt))
    return Decision(attempt, _charge_result(attempt, command_id))


def _begin_refund(attempt: Attempt | None, command_id: str, body: PaymentRefund) -> Decision:
    if attempt is None:
        attempt = Attempt(
            order_id=body.order_id,
            status="CANCELLED",
            version=1,
            charge_id=body.charge_id,
            amount_minor=body.amount_minor,
            currency=body.currency,
            refund_id=command_id,
            reason="refund_before_charge",
        )
        return Decision(attempt, _refund_result(attempt, command_id))
    _same_money(attempt, body)
    match attempt.status:
        case "INTENT":
            attempt = _changed(attempt, "CANCELLING", refund_id=command_id)
        case "CHARGED":
            attempt = _changed(attempt, "REFUNDING", refund_id=command_id)
        case "DECLINED" | "EXPIRED":
            attempt = _changed(attempt, "CANCELLED", refund_id=command_id)
        case _:
            pass
    if attempt.status in UNDECIDED:
        return Decision(attempt, call=_refund_of(attempt))
    return Decision(attempt, _refund_result(attempt, command_id))


def _complete_charge(attempt: Attempt, command_id: str, reply: Reply) -> Decision:
    if attempt.status == "INTENT":
        match reply:
            case Charged(payment_id):
                attempt = _changed(attempt, "CHARGED", payment_id=payment_id)
            case Declined(reason):
                attempt = _changed(attempt, "DECLINED", reason=reason[:200])
            case KeyCancelled():
                attempt = _changed(attempt, "CANCELLED", reason="key_cancelled")
            case _:
                raise TypeError(f"{type(reply).__name__} does not answer a charge")
    return Decision(attempt, _charge_result(attempt, command_id))


def _complete_refund(attempt: Attempt, command_id: str, reply: Reply) -> Decision:
    if attempt.status in ("CANCELLING", "REFUNDING"):
        match reply:
            case Refunded():
                attempt = _changed(attempt, "REFUNDED")
            case NothingCaptured():
                attempt = _changed(attempt, "CANCELLED")
            case Declined(reason):
                # Captured, and the gateway refuses to give it back: only a new command may ask
                # again, and the attempt stays one that owes a refund.
                attempt = _changed(attempt, "CHARGED", reason=reason[:200])
            case _:
                raise TypeError(f"{type(reply).__name__} does not answer a refund")
    return Decision(attempt, _refund_result(attempt, command_id))


def _charge_of(attempt: Attempt) -> Charge:
    return Charge(attempt.charge_id, attempt.order_id, attempt.amount_minor, attempt.currency)


def _refund_of(attempt: Attempt) -> Refund:
    return Refund(
        attempt.refund_id, attempt.order_id, attempt.charge_id, attempt.status == "CANCELLING"
    )


def _charge_result(attempt: Attempt, command_id: str) -> PaymentResult:
    outcome: ChargeOutcome
    match attempt.status:
        case "CHARGED":
            outcome = "OK"
        case "DECLINED":
            outcome = "DECLINED"
        case "EXPIRED":
            outcome = "EXPIRED"
        case _:
            outcome = "CANCELLED"
    return _result(attempt, command_id, "charge", outcome)


def _refund_result(attempt: Attempt, command_id: str) -> PaymentResult:
    owed = attempt.status == "CHARGED"
    return _result(attempt, command_id, "refund", "DECLINED" if owed else "OK")


def _result(
    attempt: Attempt, command_id: str, operation: Operation, outcome: ChargeOutcome
) -> PaymentResult:
    return PaymentResult(
        order_id=attempt.order_id,
        command_id=command_id,
        operation=operation,
        outcome=outcome,
        reason=attempt.reason,
        payment_id=attempt.payment_id,
        state_version=attempt.version,
    )


def _changed(attempt: Attempt, status: Status, **fields: str) -> Attempt:
    return msgspec.structs.replace(
        attempt, status=status, version=attempt.version + 1, **{"reason": "", **fields}
    )


def _same_money(attempt: Attempt, body: Command) -> None:
    if (body.amount_minor, body.currency) != (attempt.amount_minor, attempt.currency):
        raise Poison("bad_command", "the amount differs from the recorded attempt")
