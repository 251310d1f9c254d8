"""Sends charges back by itself when the payment provider answers again.

A breaker that closes says that the cause of its outage's dead letters is gone; so does the first
answer that a worker gets, which may have been started during the outage. A while after, when they
are indexed, one job is asked for with exactly those: this consumer's, parked for an error of the
provider. It is recorded under the actor `auto-redrive`, runs at a bounded rate in role `dlq` like
any operator's, and takes a command only so many times. Off by default.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import mode

from app.db import auto_redrives
from app.errors import BreakerOpen, GatewayTimeout, GatewayUnavailable, SymphonyError
from app.gateway.breaker import State
from app.observability.logging import get_log

if TYPE_CHECKING:
    from app.delivery import App

log = get_log(__name__)

CAUSES: Final = tuple(one.code for one in (GatewayUnavailable, GatewayTimeout, BreakerOpen))
LOOKS: Final = 5
"""How often is looked after one closing: an outage's last letters may still be on their way."""


class AutoRedrive(mode.Service):
    """Runs beside the agent of `consumer`; `changed` is told the states of its breaker."""

    def __init__(self, app: App, consumer: str) -> None:
        super().__init__()
        self._app = app
        self._consumer = consumer
        self._closed = asyncio.Event()
        self._open = False

    def changed(self, state: State) -> None:
        """Note a new state of the breaker, or CLOSED at its first answer."""
        self._open = state is not State.CLOSED
        if not self._open:
            self._closed.set()

    async def on_start(self) -> None:
        """Begin to wait for a closing."""
        self.add_future(self._work())

    async def _work(self) -> None:
        while not self.should_stop:
            await self._closed.wait()
            self._closed.clear()
            await self.after_closing()

    async def after_closing(self) -> None:
        """Look a few times for letters, until the breaker is open again."""
        for _ in range(LOOKS):
            await self.sleep(self._app.settings.payment_auto_redrive_delay_s)
            if self._open or self.should_stop:
                return
            await self._look()

    async def _look(self) -> None:
        settings = self._app.settings
        try:
            count = await auto_redrives.queue(
                self._app.db,
                self._consumer,
                CAUSES,
                reason="the breaker of the payment gateway has closed",
                redrives_max=settings.payment_auto_redrives_max,
                letters_max=settings.payment_auto_redrive_letters_max,
                rate_per_s=settings.payment_auto_redrive_rate_per_s,
                now=self._app.clock.now(),
            )
        except SymphonyError as error:
            log.warning("auto_redrive.not_asked", reason=str(error))
            return
        if count:
            log.warning("auto_redrive.asked", consumer=self._consumer, letters=count)
