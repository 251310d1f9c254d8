"""Provoke a lost or a phantom event on this platform: POST /chaos/lost-event and /phantom-event.

Both break an order at the place where a dual write would lose or invent its event, then look into
the database and into Kafka. With the outbox neither happens; what a dual write does at the same
places is shown by `symphony lesson dual-write`, in a lab of its own.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Literal

import msgspec
from aiohttp import web
from confluent_kafka import KafkaException

from app import ids
from app.db import audit_log, intake, order_reads, outbox
from app.db.seed import UNTRACKED_SKU
from app.observability.health import json_response
from app.observability.logging import get_log
from app.topics import ORDER_CREATED
from chaos.control.tail import Tail
from web.actor import actor_of
from web.api.bodies import OrderRequest
from web.api.drafts import Draft, Priced, finish, new_order_id, price
from web.api.screening import ACCEPTED
from web.context import CONTEXT
from web.edge import REQUEST_ID, trace_of
from web.messages import source_of
from web.problems import unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from app.db.intake import NewOrder

log = get_log(__name__)

LOOK_S: Final = 1.0
"""For each of two looks into Kafka that must be answered, at most a fifth of the request's time."""
WATCH_S: Final = 2.0
"""For the event to come, at most two fifths; a row of the outbox is published in less than one."""
TOTAL_MINOR: Final = 1000
LESSON: Final = "symphony lesson dual-write --scenario "


Defect = Literal["", "lost", "phantom"]


class Provoked(msgspec.Struct, frozen=True, rename="camel"):
    """What became of one broken order. `waiting`: its event is a row of the outbox and will be
    published, however long the broker or the relay is away. `defect` is empty when none is there.
    """

    order_id: str
    fault: str
    stored: bool
    published: bool
    waiting: bool
    defect: Defect
    dual_write: str


class Undone(Exception):
    """Rolls the transaction of a phantom event back."""


async def phantom_event(request: web.Request) -> web.Response:
    """POST /chaos/phantom-event: write an order and its event, then roll the transaction back."""
    context = request.app[CONTEXT]
    order = _order(request)

    async def break_it() -> None:
        try:
            async with context.db.transaction() as tx:
                intake.insert(tx, [order], context.clock.now())
                await intake.prices(tx, [UNTRACKED_SKU])  # what was queued reaches the server
                raise Undone
        except Undone:
            return

    return await _provoke(
        request,
        order,
        "phantom",
        "its transaction was rolled back after the event was written",
        break_it,
    )


async def lost_event(request: web.Request) -> web.Response:
    """POST /chaos/lost-event: let a request fail right after its order was committed; the order is
    real, and goes its way.
    """
    context = request.app[CONTEXT]
    order = _order(request)

    async def break_it() -> None:
        async with context.db.transaction() as tx:
            intake.insert(tx, [order], context.clock.now())
            await tx.commit()

    return await _provoke(request, order, "lost", "its request failed after the commit", break_it)


async def _provoke(
    request: web.Request,
    order: NewOrder,
    lesson: Literal["lost", "phantom"],
    fault: str,
    break_it: Callable[[], Awaitable[None]],
) -> web.Response:
    """Look, record, break, watch; a fifth of the request's time is left for the database."""
    context = request.app[CONTEXT]
    bootstrap = context.settings.broker_bootstrap
    fifth_s = context.settings.api_request_timeout_s / 5
    look_s, watch_s = min(LOOK_S, fifth_s), min(WATCH_S, 2 * fifth_s)
    try:
        tail = await asyncio.to_thread(Tail, bootstrap, ORDER_CREATED.name, look_s)
    except (KafkaException, OSError) as error:
        raise unavailable(
            "broker_away", f"Kafka cannot be looked into, so nothing was broken: {error}."
        ) from error
    try:
        await _record(request, lesson, order, fault)
        await break_it()
        # in this order: a row that is published meanwhile is seen at one of both places
        event_id = ids.event_id(order.order_id, ORDER_CREATED.name)
        waiting = await outbox.is_waiting(context.db, event_id)
        stored = await order_reads.order(context.db, order.order_id) is not None
    except BaseException:
        tail.close()
        raise
    try:
        published = await asyncio.to_thread(tail.find, order.order_id.encode(), watch_s, look_s)
    except (KafkaException, OSError) as error:
        raise unavailable(
            "broker_away", f"Order {order.order_id} was broken, and then Kafka went away: {error}."
        ) from error
    waiting = waiting and not published
    found = defect_of(stored=stored, published=published, waiting=waiting)
    log.info("chaos.dual_write_provoked", order_id=order.order_id, fault=fault, defect=found)
    told = Provoked(order.order_id, fault, stored, published, waiting, found, LESSON + lesson)
    return json_response(told)


async def _record(request: web.Request, lesson: str, order: NewOrder, fault: str) -> None:
    """Write down what is about to be done, so that nothing of it goes unrecorded."""
    async with request.app[CONTEXT].db.transaction() as tx:
        audit_log.record(
            tx,
            actor=actor_of(request),
            action=f"chaos.provoke.{lesson}",
            target=order.order_id,
            detail={"fault": fault},
            request_id=request[REQUEST_ID],
        )


def defect_of(*, stored: bool, published: bool, waiting: bool) -> Defect:
    """Return what database and topic say of an order together; an event that waits is not lost."""
    if published or waiting:
        return "" if stored else "phantom"
    return "lost" if stored else ""


def _order(request: web.Request) -> NewOrder:
    """An order over an amount, as the API would store it."""
    context = request.app[CONTEXT]
    now = context.clock.now()
    wanted = OrderRequest(f"chaos {actor_of(request)}", "EUR", TOTAL_MINOR, (), None)
    draft = Draft(new_order_id(now), wanted, "", wanted.digest(), request[REQUEST_ID],
                  trace_of(request), now)  # fmt: skip
    priced = price(draft, {})
    assert isinstance(priced, Priced), "an amount needs no catalogue"
    return finish(priced, ACCEPTED, source_of(context.settings))
