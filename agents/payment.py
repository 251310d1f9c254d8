"""Role payment: charges and refunds through the payment gateway, the stable arm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.delivery import consume
from app.gateway.breaker import ignore
from app.gateway.client import GatewayClient
from app.participants.payment import Payments
from app.redrive.automatic import AutoRedrive
from app.topics import PAYMENT_REFUND, PAYMENT_REQUESTED
from tables import payment_idempotency

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.delivery import App
    from app.gateway.breaker import State

NAME = "payment"


def register(app: App) -> None:
    """Declare the agent and its table; the gateway's connections close with the application."""
    told: Callable[[State], None] = ignore
    if app.settings.payment_auto_redrive:
        redrives = AutoRedrive(app, NAME)
        app.service(redrives)
        told = redrives.changed
    gateway = GatewayClient.from_settings(app.settings, told)
    app.async_exit_stack.push_async_callback(gateway.close)
    consume(
        app,
        name=NAME,
        topics=(PAYMENT_REQUESTED, PAYMENT_REFUND),
        handler=Payments(f"{app.settings.namespace}/{NAME}", gateway),
        idempotency=payment_idempotency.declare(app),
    )
