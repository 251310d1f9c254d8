"""What an answer of the payment gateway means: something definite, or nothing to rely on.

Only the answers named here are definite. Everything else (5xx, an unexpected status, a body that
cannot be read, silence, a broken connection) may or may not have happened: it is raised as one of
app.errors' Indefinite classes, and only the same idempotency key may be tried again.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, NamedTuple

import msgspec

from app.errors import GatewayUnavailable

Operation = Literal["charge", "refund", "cancel"]

BODY_MAX_BYTES = 16384


class Outcome(StrEnum):
    """Definite outcomes. OK: charged, refunded, or cancelled before it was ever charged."""

    OK = "ok"
    DECLINED = "declined"
    REFUSED = "refused"
    KEY_CANCELLED = "key_cancelled"
    ALREADY_CAPTURED = "already_captured"


class GatewayReply(NamedTuple):
    """A definite answer; `payment_id` is the gateway's id of a charge or refund that happened."""

    outcome: Outcome
    payment_id: str = ""
    reason: str = ""


class UnexpectedReply(GatewayUnavailable):
    """The gateway is alive but said something that settles nothing."""

    code = "gateway_unexpected_reply"
    doc = "The payment gateway refused the request itself (4xx): its operator or ours must look."

    def __init__(self, detail: str, *, retryable: bool) -> None:
        super().__init__(detail)
        self.retryable = retryable


class _Body(msgspec.Struct, frozen=True):
    outcome: str
    payment_id: str = ""
    reason: str = ""


_decode = msgspec.json.Decoder(_Body).decode

_MEANINGS: dict[tuple[str, int, str], Outcome] = {
    ("charge", 200, "ok"): Outcome.OK,
    ("charge", 402, "declined"): Outcome.DECLINED,
    ("charge", 410, "cancelled"): Outcome.KEY_CANCELLED,
    ("refund", 200, "ok"): Outcome.OK,
    ("refund", 200, "already_refunded"): Outcome.OK,
    ("refund", 404, "refused"): Outcome.REFUSED,
    ("cancel", 200, "cancelled"): Outcome.OK,
    ("cancel", 200, "already_captured"): Outcome.ALREADY_CAPTURED,
    ("cancel", 200, "already_declined"): Outcome.DECLINED,
}
_AGAIN = (409, 425, 429)


def read(operation: Operation, status: int, body: bytes) -> GatewayReply:
    """Return the definite answer.

    Raises GatewayUnavailable for 5xx and for a body that does not fit a status that should settle
    the call, UnexpectedReply (retryable for 409, 425 and 429) for any other status.
    """
    if status >= 500 or status < 200:
        raise GatewayUnavailable(f"status {status}")
    if status in _AGAIN:
        raise UnexpectedReply(f"status {status}", retryable=True)
    try:
        said = _decode(body)
    except msgspec.MsgspecError as error:
        raise GatewayUnavailable(f"status {status}, unreadable body: {error}") from None
    outcome = _MEANINGS.get((operation, status, said.outcome))
    if outcome is None:
        if status < 300:
            raise GatewayUnavailable(f"status {status}, unknown outcome {said.outcome[:50]!r}")
        raise UnexpectedReply(f"status {status}: {said.reason[:100]}", retryable=False)
    if outcome is Outcome.OK and operation == "charge" and not said.payment_id:
        raise GatewayUnavailable("a charge without payment id")
    return GatewayReply(outcome, said.payment_id[:200], said.reason[:200])
