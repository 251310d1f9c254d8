"""Defects of the roles: saga, payment, inventory, and ids."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import app.domain.inventory as stock
from app import ids
from app.domain import moves, results, saga
from app.domain.payment import NothingCaptured, Refunded
from app.domain.record import StepRecord
from app.gateway.client import GatewayClient
from chaos.simulation.plants.registry import plant

if TYPE_CHECKING:
    from chaos.simulation.plants.registry import Planting


@plant("gateway-key-per-call")
def gateway_key_per_call(planting: Planting) -> None:
    """Each charge goes to the gateway under a key of its own, not under the command's id."""
    calls = iter(range(1 << 30))

    async def charge(self: GatewayClient, key: str, **details: Any) -> Any:
        return await charged(self, ids.uuid5(key, f"call {next(calls)}"), **details)

    charged = GatewayClient.charge
    planting.replace(GatewayClient, "charge", charge)


@plant("refund-lost")
def refund_lost(planting: Planting) -> None:
    """A refund is recorded and never asked of the gateway."""

    async def refund(self: Any, request: Any) -> Any:
        del self, request
        return Refunded()

    planting.replace(import_module("app.participants.payment").Payments, "_refund", refund)


@plant("key-not-cancelled")
def key_not_cancelled(planting: Planting) -> None:
    """A refund of a charge whose outcome is unknown takes it for never made."""

    async def refund(self: Any, request: Any) -> Any:
        return NothingCaptured() if request.cancel_first else await refunded(self, request)

    payments = import_module("app.participants.payment").Payments
    refunded = payments._refund
    planting.replace(payments, "_refund", refund)


@plant("reservation-leak")
def reservation_leak(planting: Planting) -> None:
    """A release is recorded and the goods stay held."""

    def release(*args: Any) -> Any:
        return released(*args)._replace(stock=())

    released = stock._release
    planting.replace(stock, "_release", release)


@plant("late-reply-flips")
def late_reply_flips(planting: Planting) -> None:
    """A success is believed in any state of the saga: no guard looks what it waits for."""

    def forward_result(draft: Any, saga: Any, index: int, body: Any) -> Any:
        step = saga.plan.steps[index]
        if body.outcome in step.success and saga.steps[index].status != "DONE":
            saga = moves.replaced(saga, index, StepRecord(status="SENT"))
            return answered(draft, saga, index, body)
        return decided(draft, saga, index, body)

    decided, answered = results._forward_result, results._answered
    planting.replace(results, "_forward_result", forward_result)


@plant("duplicate-reply-advances")
def duplicate_reply_advances(planting: Planting) -> None:
    """A success counts again when its step is done: the step after it is started once more."""

    def forward_result(draft: Any, saga: Any, index: int, body: Any) -> Any:
        if body.outcome in saga.plan.steps[index].success and not saga.final:
            return answered(draft, saga, index, body)
        return decided(draft, saga, index, body)

    decided, answered = results._forward_result, results._answered
    planting.replace(results, "_forward_result", forward_result)


@plant("one-result-id")
def one_result_id(planting: Planting) -> None:
    """All answers to a command carry one id, whatever they say."""

    def one_id(command_id: str, *_: object) -> str:
        return ids.uuid5(command_id, "result")

    planting.replace(ids, "result_id", one_id)
    planting.replace(ids, "notice_id", one_id)


@plant("timeout-is-refusal")
def timeout_is_refusal(planting: Planting) -> None:
    """A step without an answer is taken for not done, so nothing undoes it."""

    def turn_back(draft: Any, saga: Any, reason: str) -> Any:
        index = saga.current()
        if index is not None and saga.steps[index].status == "SENT":
            saga = moves.replaced(saga, index, StepRecord(status="FAILED"))
        return turned(draft, saga, reason)

    turned = moves.turn_back
    planting.replace(saga, "turn_back", turn_back)
