"""Role shipping: ships orders and voids shipments, at most one shipment per order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from app import ids
from app.db import shipping as shipments
from app.delivery import Applied, Event, consume
from app.domain.shipping import DEFAULT_RULES, Rules, decide, notice
from app.errors import SymphonyError
from app.failpoints import failpoint
from app.messages import Output, ShippingRequested, ShippingResult, emit
from app.topics import SHIPPING_CANCEL, SHIPPING_REQUESTED, SHIPPING_RESULT
from tables import shipping_idempotency

if TYPE_CHECKING:
    from app.db.engine import Transaction
    from app.delivery import App

NAME = "shipping"


class Shipping:
    """Ship and cancel commands by order, commutative per order; answers shipping.result."""

    def __init__(self, source: str, rules: Rules = DEFAULT_RULES) -> None:
        """`source` is the CloudEvents source of the results."""
        self._source = source
        self._rules = rules

    async def apply(self, tx: Transaction, events: Sequence[Event], now: datetime) -> list[Applied]:
        """Decide each command on its order's shipment and store what changed, all in `tx`."""
        known = await shipments.lock(tx, _to_read(tx, events))
        await failpoint("shipping.after_lock", events)
        current, applied = dict(known), []
        for event in events:
            order_id = event.body.order_id
            decision = decide(current.get(order_id), event.event_id, event.body, now, self._rules)
            current[order_id] = decision.shipment
            applied.append(Applied((self._result(event, decision.result, now),)))
        changed = [one for one in current.values() if one is not known.get(one.order_id)]
        shipments.store(tx, known, changed)
        return applied

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

    def _result(self, event: Event, body: ShippingResult, now: datetime) -> Output:
        identity = ids.result_id(event.event_id, body.state_version)
        return emit(event, SHIPPING_RESULT, body, event_id=identity, now=now, source=self._source)

    def _notice(self, event: Event, body: ShippingResult, now: datetime) -> Output:
        identity = ids.notice_id(event.event_id, body.outcome, event.delivery, now)
        return emit(event, SHIPPING_RESULT, body, event_id=identity, now=now, source=self._source)


def _to_read(tx: Transaction, events: Sequence[Event]) -> Iterable[str]:
    """Orders that may have a shipment; a request's most likely has none: its insert is guarded."""
    for event in events:
        if not (tx.guessing and isinstance(event.body, ShippingRequested)):
            yield event.body.order_id


def register(app: App) -> None:
    """Declare the agent and its table."""
    consume(
        app,
        name=NAME,
        topics=(SHIPPING_REQUESTED, SHIPPING_CANCEL),
        handler=Shipping(f"{app.settings.namespace}/{NAME}"),
        idempotency=shipping_idempotency.declare(app),
    )
