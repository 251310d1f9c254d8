"""An order's changes of status go out in their order, whatever comes first after a worker died."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from agents.orchestrator import Orchestrator
from app.clock import SystemClock
from app.control.canary import Split
from app.delivery.effects import Effects, Finished
from app.delivery.events import Event
from app.delivery.flood import FloodGate
from app.delivery.state import StateTracker
from app.messages import OrderCancel, OrderCreated, decode
from app.messages.orders import Item
from app.settings import load_settings
from app.topics import ORDER_STATUS_CHANGED
from chaos.simulation.application import MemoryStore
from tests.integration.participants import NOW, event, opened, order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.db.engine import Database

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]


class Patient:
    """The core's patience, without any."""

    async def run(self, attempt: Any) -> Any:
        return await attempt()


class Worker:
    """An orchestrator's effects over what is left of its table; nothing of it is published."""

    def __init__(self, database: Database, table: dict[bytes, bytes] | None = None) -> None:
        self.store = store = MemoryStore()
        store.data |= table or {}
        store._key_partition |= dict.fromkeys(store.data, 0)
        settings = load_settings()
        self.handler = Orchestrator(settings, SimpleNamespace(data=store), Split())  # type: ignore[arg-type]
        self.handler.recovered([0])
        app: Any = SimpleNamespace(db=database, clock=SystemClock(), settings=settings)
        patience: Any = Patient()
        flood = FloodGate(app, "orchestrator", StateTracker())
        self.effects = Effects(app, "orchestrator", self.handler, patience, flood)

    async def apply(self, *events: Event) -> list[Finished]:
        finished = await self.effects.apply(events)
        for one in finished:
            for write in one.writes:
                self.store.data[write.key] = write.value or b""
            self.handler.written(0, one.writes)
        return finished


def created() -> Event:
    body = OrderCreated(
        order_id=order(),
        customer_id="c",
        items=[Item(product_id="SKU-1", quantity=1, unit_price_minor=500)],
        total_minor=500,
        currency="EUR",
        created_at=NOW,
    )
    return event(body, "created")


def cancel(of: Event) -> Event:
    return event(OrderCancel(order_id=of.body.order_id, reason="changed"), "cancel")


def announced(finished: Sequence[Finished]) -> list[int]:
    """Versions in the order in which they are announced, each at its first time."""
    found: dict[int, None] = {}
    for one in finished:
        for out in one.outputs:
            if out.topic == ORDER_STATUS_CHANGED.name:
                body = decode(out.topic, out.headers, out.key, out.value).body
                found.setdefault(body.saga_version)
    return list(found)


@pytest.mark.parametrize("table", ["lost", "written"])
async def test_a_later_repeat_that_comes_first_brings_what_was_before(
    database: str, table: str
) -> None:
    """Both events were committed and not published; the successor reads the later one first."""
    first = created()
    second = cancel(first)
    async with opened(database) as db:
        worker = Worker(db)
        dead = await worker.apply(first, second)
        successor = Worker(db, worker.store.data if table == "written" else None)
        again = [*await successor.apply(second), *await successor.apply(first)]
    assert announced(dead) == [1, 2]
    assert announced(again) == [1, 2]


async def test_a_fresh_event_between_repeats_brings_what_was_before(database: str) -> None:
    """The created order's repeat is still to come when its customer's cancellation is read."""
    first = created()
    async with opened(database) as db:
        await Worker(db).apply(first)
        successor = Worker(db)
        fresh = await successor.apply(cancel(first))
        again = await successor.apply(first)
    assert announced(fresh) == [1, 2]
    assert announced([*fresh, *again]) == [1, 2]


async def test_it_is_looked_up_once_and_never_for_new_orders(database: str) -> None:
    """New orders and those that came up in this assignment already are guessed to be fresh."""
    first, other = created(), created()
    async with opened(database) as db:
        worker = Worker(db)
        await worker.apply(first)
        assert not worker.handler.is_unsure(other, again=False)
        assert not worker.handler.is_unsure(cancel(first), again=False)
        successor = Worker(db)
        assert successor.handler.is_unsure(cancel(first), again=False)
        await successor.apply(cancel(first))
        assert not successor.handler.is_unsure(first, again=True)
