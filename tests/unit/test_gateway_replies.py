"""Which answers of the payment gateway are definite."""

from __future__ import annotations

import json

import pytest

from app.errors import GatewayUnavailable
from app.gateway.client import backoff_s
from app.gateway.replies import GatewayReply, Operation, Outcome, UnexpectedReply, read

pytestmark = pytest.mark.unit


def said(outcome: str, payment_id: str = "", reason: str = "") -> bytes:
    return json.dumps({"outcome": outcome, "payment_id": payment_id, "reason": reason}).encode()


@pytest.mark.parametrize(
    ("operation", "status", "outcome", "expected"),
    [
        ("charge", 200, "ok", Outcome.OK),
        ("charge", 402, "declined", Outcome.DECLINED),
        ("charge", 410, "cancelled", Outcome.KEY_CANCELLED),
        ("refund", 200, "ok", Outcome.OK),
        ("refund", 200, "already_refunded", Outcome.OK),
        ("refund", 404, "refused", Outcome.REFUSED),
        ("cancel", 200, "cancelled", Outcome.OK),
        ("cancel", 200, "already_captured", Outcome.ALREADY_CAPTURED),
        ("cancel", 200, "already_declined", Outcome.DECLINED),
    ],
)
def test_definite_answers(
    operation: Operation, status: int, outcome: str, expected: Outcome
) -> None:
    """Each answer of the gateway's contract has its one meaning."""
    reply = read(operation, status, said(outcome, "pay_1", "why"))
    assert reply == GatewayReply(expected, "pay_1", "why")


@pytest.mark.parametrize("status", [100, 500, 502, 503, 504, 599])
def test_server_errors_settle_nothing(status: int) -> None:
    """A 5xx is indefinite even when its body says that all went well."""
    with pytest.raises(GatewayUnavailable, match=str(status)):
        read("charge", status, said("ok", "pay_1"))


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b'{"outcome": 1}', b'{"payment_id": "pay_1"}', b"\xff", said("fine")],
)
def test_unreadable_success_settles_nothing(body: bytes) -> None:
    """A 200 whose body is not understood may be a charge: it is indefinite."""
    with pytest.raises(GatewayUnavailable):
        read("charge", 200, body)


def test_charge_without_payment_id_settles_nothing() -> None:
    """A charge that names no payment cannot be refunded, so it is not taken as definite."""
    with pytest.raises(GatewayUnavailable, match="payment id"):
        read("charge", 200, said("ok"))


@pytest.mark.parametrize(
    ("status", "retryable"), [(400, False), (401, False), (404, False), (422, False), (409, True),
                              (429, True)],
)  # fmt: skip
def test_other_refusals_are_indefinite_but_show_life(status: int, retryable: bool) -> None:
    """A 4xx outside the contract never counts as a decline; only some are worth a second try."""
    with pytest.raises(UnexpectedReply) as caught:
        read("charge", status, said("mismatch", reason="key_reused"))
    assert caught.value.retryable is retryable


def test_decline_needs_its_body() -> None:
    """A bare 402, as a proxy might send it, is not a decline."""
    with pytest.raises(GatewayUnavailable):
        read("charge", 402, b"Payment Required")
    with pytest.raises(UnexpectedReply):
        read("charge", 402, said("blocked"))


def test_backoff_is_bounded_and_jittered() -> None:
    """The pause doubles from 0.1 s up to 1 s and is scaled by the draw down to nothing."""
    assert [backoff_s(attempt, 1.0) for attempt in (1, 2, 3, 4, 5, 60)] == [
        0.1,
        0.2,
        0.4,
        0.8,
        1,
        1,
    ]
    assert backoff_s(3, 0.0) == 0.0
    assert backoff_s(3, 0.5) == pytest.approx(0.2)
