"""Role inventory: holds, releases and commits stock; no order gets what is not there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from app import ids
from app.db import inventory as stock_rows
from app.delivery import Applied, Event, consume
from app.domain.inventory import Decision, decide_batch, notice, requested_skus
from app.errors import SymphonyError
from app.failpoints import failpoint
from app.messages import InventoryRequested, InventoryResult, Output, emit
from app.topics import (
    INVENTORY_COMMIT,
    INVENTORY_RELEASE,
    INVENTORY_REQUESTED,
    INVENTORY_RESULT,
    STOCK_LOW,
)
from tables import inventory_idempotency

if TYPE_CHECKING:
    from app.db.engine import Transaction
    from app.delivery import App

NAME = "inventory"


class Inventory:
    """Reserve, release and commit commands by order; answers inventory.result, warns stock.low."""

    def __init__(self, source: str) -> None:
        """`source` is the CloudEvents source of the results."""
        self._source = source

    async def apply(self, tx: Transaction, events: Sequence[Event], now: datetime) -> list[Applied]:
        """Lock the batch's rows in one order, decide in memory, write each SKU once."""
        commands = [(event.event_id, event.body) for event in events]
        to_read = _to_read(tx, events)
        known, stock = await stock_rows.lock(tx, to_read, requested_skus(commands))
        await failpoint("inventory.after_lock", events)
        batch = decide_batch(known, stock, commands, now)
        stock_rows.store(tx, known, batch.reservations.values(), batch.stock.values())
        return [
            Applied(self._outputs(event, decision, now))
            for event, decision in zip(events, batch.decisions, strict=True)
        ]

    def retrying(
        self, event: Event, error: SymphonyError, due_at: datetime, now: datetime
    ) -> tuple[Output, ...]:
        """Tell the saga when the command is tried again."""
        body = notice(event.event_id, event.body, "RETRYING", reason=error.code, due_at=due_at)
        return (self._notice(event, body, now),)

    def parked(self, event: Event, error: SymphonyError, now: datetime) -> tuple[Output, ...]:
        """Tell the saga that an operator must act."""
        body = notice(event.event_id, event.body, "PARKED", reason=error.code)
        return (self._notice(event, body, now),)

    def _outputs(self, event: Event, decision: Decision, now: datetime) -> tuple[Output, ...]:
        outputs = [self._result(event, decision.result, now)]
        for warning in decision.low:
            identity = ids.event_id(event.event_id, f"stock.low:{warning.sku}")
            outputs.append(
                emit(event, STOCK_LOW, warning, event_id=identity, now=now, source=self._source)
            )
        return tuple(outputs)

    def _result(self, event: Event, body: InventoryResult, now: datetime) -> Output:
        identity = ids.result_id(event.event_id, body.state_version)
        return emit(event, INVENTORY_RESULT, body, event_id=identity, now=now, source=self._source)

    def _notice(self, event: Event, body: InventoryResult, now: datetime) -> Output:
        identity = ids.notice_id(event.event_id, body.outcome, event.delivery, now)
        return emit(event, INVENTORY_RESULT, body, event_id=identity, now=now, source=self._source)


def _to_read(tx: Transaction, events: Sequence[Event]) -> Iterable[str]:
    """Orders that may be reserved; a request's most likely is not: its insert is guarded."""
    for event in events:
        if not (tx.guessing and isinstance(event.body, InventoryRequested)):
            yield event.body.order_id


def register(app: App) -> None:
    """Declare the agent and its table."""
    consume(
        app,
        name=NAME,
        topics=(INVENTORY_REQUESTED, INVENTORY_RELEASE, INVENTORY_COMMIT),
        handler=Inventory(f"{app.settings.namespace}/{NAME}"),
        idempotency=inventory_idempotency.declare(app),
    )
