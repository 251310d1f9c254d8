"""What is recorded of notifications: once an occurrence, whichever event brings it about."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from aiokafka.structs import ConsumerRecord

from agents.notification import Notifications
from app.delivery import Applied, Call, Event, Reply
from app.messages import Body, OrderStatusChanged, StockLow
from app.notification.log_sink import LogSink
from tests.integration.participants import opened

pytestmark = pytest.mark.integration

AT = datetime(2026, 11, 28, tzinfo=UTC)
HANDLER = Notifications(LogSink())


def event(body: Body) -> Event:
    """A delivery of its own."""
    record: Any = ConsumerRecord("topic", 0, 0, 0, 0, b"", b"", None, 0, 0, ())
    return Event("topic", 0, 0, b"", str(uuid4()), "", body, 0, 0, "", "", "", record)


def low(restocked: int) -> StockLow:
    """A SKU fell below a threshold, so many units having been put in."""
    return StockLow(sku="MUTE", available=9, restocked=restocked)


async def begun(db: Any, *events: Event) -> list[type]:
    """What the handler does of each."""
    async with db.transaction() as tx:
        found = await HANDLER.begin(tx, events, AT)
        await tx.commit()
    return [type(one) for one in found]


async def test_an_occurrence_is_told_by_one_event_until_it_is_sent(database: str) -> None:
    """Another event tells nothing, in the same batch or later; its own event tells it again until
    the sink has it; after a restock the SKU's next warning is told."""
    order = str(uuid4())
    parked = OrderStatusChanged(order_id=order, status="PARKED", saga_version=3)
    first, same, restocked = event(low(100)), event(low(100)), event(low(160))
    ends = [event(parked), event(parked)]
    async with opened(database) as db:
        assert await begun(db, first, same, *ends) == [Call, Applied, Call, Applied]
        assert await begun(db, same, first) == [Applied, Call]
        async with db.transaction() as tx:
            [call] = await HANDLER.begin(tx, [first], AT)
            assert isinstance(call, Call)
            assert await HANDLER.complete(tx, [Reply(first, call.request, call.request)], AT)
            await tx.commit()
        assert await begun(db, first, restocked, same) == [Applied, Call, Applied]
