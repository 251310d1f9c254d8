"""Role payment-canary: the charges of the orders that the canary gets, and nothing else.

The same handler as role payment under a consumer, a group and a table of its own. Refunds stay with
role payment: they name the order and find its attempt, whichever arm made it. A command that meets
the canary although its order is not (any more) the canary's is passed on to the stable topic as it
is, so a rollback takes hold of what already waits here, on a retry tier included.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from app.control.canary import Split, board
from app.delivery import Applied, Call, Event, Retry, consume
from app.gateway.client import GatewayClient
from app.messages import Output, deadletter
from app.participants.payment import Payments
from app.topics import PAYMENT_REQUESTED, PAYMENT_REQUESTED_CANARY
from tables import payment_idempotency

if TYPE_CHECKING:
    from app.control.board import Board
    from app.db.engine import Transaction
    from app.delivery import App

NAME = "payment-canary"


class CanaryPayments(Payments):
    """Charges of the canary's orders; those of others are passed on to the stable arm."""

    def __init__(self, app: App, gateway: GatewayClient, split: Split, config: Board) -> None:
        super().__init__(f"{app.settings.namespace}/{NAME}", gateway, "canary")
        self._split = split
        self._config = config
        self._wait_s = app.settings.control_timeout_s
        self._waited = False

    async def begin(
        self, tx: Transaction, events: Sequence[Event], now: datetime
    ) -> list[Applied | Call | Retry]:
        """As Payments.begin for the canary's orders.

        A worker that has not read the configuration yet waits for it before its first batch, for
        a bounded time: it might belong to a canary that was rolled back.
        """
        await self._known()
        ours = [event for event in events if self._is_ours(event)]
        begun = iter(await super().begin(tx, ours, now) if ours else ())
        mine = {id(event) for event in ours}
        return [
            next(begun) if id(event) in mine else Applied((self._passed_on(event),))
            for event in events
        ]

    def _is_ours(self, event: Event) -> bool:
        return self._split.config is None or self._split.is_canary(event.body.order_id)

    def _passed_on(self, event: Event) -> Output:
        return deadletter.pass_on(event.record, PAYMENT_REQUESTED.name)

    async def _known(self) -> None:
        if self._waited:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._config.caught_up.wait(), self._wait_s)
        self._waited = True


def register(app: App) -> None:
    """Declare the agent, its table and its view of the canary's configuration."""
    gateway = GatewayClient.from_settings(app.settings)
    app.async_exit_stack.push_async_callback(gateway.close)
    split = Split()
    config = board(app.settings, split, app.clock)
    app.service(config)
    consume(
        app,
        name=NAME,
        topics=(PAYMENT_REQUESTED_CANARY,),
        handler=CanaryPayments(app, gateway, split, config),
        idempotency=payment_idempotency.declare(app),
    )
