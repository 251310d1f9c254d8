"""Customers: they place orders through the database, as the API does, and may cancel them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from app import ids, topics
from app.db import intake
from app.db.engine import Database
from app.errors import DatabaseOutage, TransientDatabase
from app.messages import Cause, Item, OrderCancel, OrderCreated, emit
from chaos.simulation.statements.participants import STOCK, StockRow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from chaos.simulation.world import World

NAMESPACE = "7c1f9a52-9d6e-5a3b-8c54-1d2f4b6a7e10"
SKUS = ("anvil", "bell", "chime")
PRICES_MINOR = {"anvil": 1000, "bell": 500, "chime": 337}
SOURCE = "simulation/web"
_REFUSED_ADDRESS = "REFUSE street 1, AQ"


def stock_up(world: World, random: Random) -> None:
    """Fill the shelves, scarcely: some orders find nothing left."""
    for sku in SKUS:
        count = random.randint(2, 14)
        world.database.tables[STOCK][sku] = StockRow(count, 0, 0, count)


class Customer:
    """One customer with one order; `accepted` once the order is stored for sure."""

    def __init__(self, world: World, db: Database, number: int, random: Random) -> None:
        self._world = world
        self._db = db
        self.order_id = ids.uuid5(NAMESPACE, f"{world.plan.seed}:{number}")
        self.accepted = False
        self.cancelled = False
        self._orders_at_s = random.uniform(0.0, world.plan.until_s * 0.7)
        self._lines = [(sku, random.randint(1, 4)) for sku in SKUS if random.random() < 0.6]
        self._declined = random.random() < 0.12
        self._address = _REFUSED_ADDRESS if random.random() < 0.12 else "Main street 1, DE"
        self._cancels_after_s = random.choice((0.0, 0.5, 1.0, 1.5, 3.0, 8.0))
        self._wants_cancel = random.random() < 0.7

    @property
    def stored(self) -> bool:
        """Whether the order is in the database."""
        return self.order_id in self._world.database.tables["orders"]

    def start(self) -> None:
        """Do what customers do."""
        process = self._world.loop.process(f"customer {self.order_id[:8]}")
        self._world.loop.spawn(process, self._shop()).add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._world.violations.append(f"a customer died of {task.exception()!r}")

    async def _shop(self) -> None:
        await asyncio.sleep(self._orders_at_s)
        await self._patiently(self._order)
        self.accepted = True
        if self._wants_cancel and self._world.faults.has("cancel"):
            await asyncio.sleep(self._cancels_after_s)
            await self._patiently(self._cancel)
            self.cancelled = True

    async def _patiently(self, attempt: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await attempt()
            except (DatabaseOutage, TransientDatabase):
                await asyncio.sleep(0.5)
            else:
                return

    async def _order(self) -> None:
        now = self._world.clock.now()
        items = [
            Item(product_id=sku, quantity=quantity, unit_price_minor=PRICES_MINOR[sku])
            for sku, quantity in self._lines
        ] or [Item(product_id="amount", quantity=1, unit_price_minor=990, tracked=False)]
        if self._declined:
            items = [items[0], Item(product_id="amount", quantity=1, unit_price_minor=0)]
        total = sum(item.quantity * item.unit_price_minor for item in items)
        total += (113 - total % 100) if self._declined else 0
        body = OrderCreated(
            order_id=self.order_id,
            customer_id="customer",
            items=[item for item in items if item.unit_price_minor],
            total_minor=total,
            currency="EUR",
            shipping_address=self._address,
            created_at=now,
        )
        event = emit(
            Cause(self.order_id, self.order_id),
            topics.ORDER_CREATED,
            body,
            event_id=ids.event_id(self.order_id, topics.ORDER_CREATED.name),
            now=now,
            source=SOURCE,
        )
        order = intake.NewOrder(
            order_id=self.order_id,
            customer_id="customer",
            total_minor=total,
            currency="EUR",
            shipping_address=self._address,
            items=tuple(body.items),
            event=event,
            key="",
            body_hash=b"",
            reply=b"",
            created_at=now,
        )
        async with self._db.transaction() as tx:
            intake.insert(tx, [order], now)

    async def _cancel(self) -> None:
        now = self._world.clock.now()
        async with self._db.transaction() as tx:
            known = await intake.lock_for_cancel(tx, self.order_id)
            if known is None or known.requested:
                return
            identity = ids.event_id(self.order_id, topics.ORDER_CANCEL.name)
            cause = Cause(self.order_id, self.order_id)
            body = OrderCancel(order_id=self.order_id)
            event = emit(
                cause, topics.ORDER_CANCEL, body, event_id=identity, now=now, source=SOURCE
            )
            intake.request_cancel(tx, self.order_id, event, identity, "changed my mind", now)
