"""The shipping participant on a real PostgreSQL."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from agents.shipping import Shipping
from app.db import shipping as shipments
from app.domain.shipping import decide
from app.errors import Overtaken, RowsMissed
from app.messages import ShippingCancel, ShippingRequested, decode
from tests.integration.participants import (
    NOW,
    PAST,
    SOON,
    apply,
    event,
    opened,
    order,
    result,
    rows,
)

if TYPE_CHECKING:
    from app.delivery import Applied, Event

pytestmark = pytest.mark.integration

HANDLER = Shipping("test/shipping")


def ship(order_id: str, address: str | None = "1 Main Street, IE", *, late: bool = False) -> Event:
    not_after = PAST if late else SOON
    return event(ShippingRequested(order_id=order_id, address=address, not_after=not_after), "ship")


def cancel(order_id: str) -> Event:
    return event(ShippingCancel(order_id=order_id), "cancel")


def outcomes(applied: list[Applied]) -> list[str]:
    return [result(one).outcome for one in applied]


async def test_batch_ships_and_refuses(database: str) -> None:
    """One batch of every kind: shipped, collected, refused, not served, too late."""
    orders = [order() for _ in range(5)]
    async with opened(database) as db:
        applied = await apply(
            db,
            HANDLER,
            ship(orders[0]),
            ship(orders[1], None),
            ship(orders[2], "1 Refuse Road"),
            ship(orders[3], "Base, AQ"),
            ship(orders[4], late=True),
        )
    assert outcomes(applied) == ["OK", "OK", "REFUSED", "REFUSED", "EXPIRED"]
    shipped = rows(database, "select count(*) from shipping.shipment where status = 'SHIPPED'")
    assert shipped == [(2,)]


async def test_every_permutation_ends_without_shipment(database: str) -> None:
    """Ship, cancel and repeats of both, in any order and grouping, ship nothing in the end."""
    async with opened(database) as db:
        for sequence in set(itertools.permutations(["ship", "cancel", "ship", "cancel"])):
            for size in (1, 2, 4):
                one = order()
                made = {"ship": ship(one), "cancel": cancel(one)}
                events = [made[name] for name in sequence]
                for start in range(0, len(events), size):
                    await apply(db, HANDLER, *events[start : start + size])
    statuses = rows(database, "select distinct status from shipping.shipment")
    assert statuses == [("CANCELLED",)]


async def test_repeat_is_the_same_event(database: str) -> None:
    """A repeated command gets the same answer under the same event id."""
    command = ship(order())
    async with opened(database) as db:
        first = await apply(db, HANDLER, command)
        again = await apply(db, HANDLER, command)
    assert first == again
    assert result(first[0]).shipment_id


async def test_tombstone_outlives_a_new_deadline(database: str) -> None:
    """A command that expired stays expired when it is sent again with a new deadline."""
    one = order()
    async with opened(database) as db:
        assert outcomes(await apply(db, HANDLER, ship(one, late=True))) == ["EXPIRED"]
        assert outcomes(await apply(db, HANDLER, ship(one))) == ["EXPIRED"]


async def test_slower_twin_repeats_its_batch(database: str) -> None:
    """Two workers that both found nothing: the slower is told to repeat."""
    command = ship(order())
    body = command.body
    async with opened(database) as db:
        with pytest.raises(RowsMissed):
            async with db.transaction() as slow:
                known = await shipments.lock(slow, [body.order_id])
                await apply(db, HANDLER, command)
                made = decide(None, command.event_id, body, NOW).shipment
                shipments.store(slow, known, [made])
        assert outcomes(await apply(db, HANDLER, command)) == ["OK"]


def test_notices_name_error_and_due_time() -> None:
    """A retried command is announced with its next time, a parked one with its reason."""
    command = ship(order())
    error = Overtaken("too early")
    (retrying,) = HANDLER.retrying(command, error, SOON, NOW)
    (parked,) = HANDLER.parked(command, error, NOW)
    said = [decode(one.topic, one.headers, one.key, one.value) for one in (retrying, parked)]
    assert [one.body.outcome for one in said] == ["RETRYING", "PARKED"]
    assert [one.body.due_at for one in said] == [SOON, None]
    assert {one.body.reason for one in said} == {"overtaken"}
    assert len({one.event_id for one in said}) == 2
