"""What must hold of a world that has come to rest (safety).

The gateway's ledger, the topics
and the tables are compared with each other, never with what a handler believes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from app.db.inbox import Status
from app.db.intake import CANCEL_REQUESTED
from app.domain.definition import FINAL, State
from app.domain.record import from_bytes
from app.messages import decode, unpack
from app.topics import DEAD_LETTER_TOPICS, MESSAGE_TOPICS, ORDER_STATUS_CHANGED, RETRY_TIERS
from chaos.simulation.client import SKUS
from chaos.simulation.rest import alarms, inbox_rows
from chaos.simulation.statements.participants import ATTEMPT, LINE, RESERVATION, SHIPMENT, STOCK
from chaos.simulation.statements.relay import PARKED
from chaos.simulation.statements.sagas import HISTORY, SAGA, HistoryRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from app.domain.record import Saga
    from chaos.simulation.client import Customer
    from chaos.simulation.world import World


_CONSUMER_OF = {
    topic: consumer
    for consumer, topics in {
        "orchestrator": (
            *("order.created", "order.cancel", "order.operate", "order.reviewed"),
            *("payment.result", "inventory.result", "shipping.result"),
        ),
        "payment": ("payment.requested", "payment.refund"),
        "inventory": ("inventory.requested", "inventory.release", "inventory.commit"),
        "shipping": ("shipping.requested", "shipping.cancel"),
    }.items()
    for topic in topics
}


def judge(world: World, customers: Sequence[Customer]) -> list[str]:
    """Return every promise that is broken in a world at rest."""
    sagas = {key: from_bytes(row.body) for key, row in world.database.tables[SAGA].items()}
    stored = {customer.order_id for customer in customers if customer.stored}
    found: list[str] = [f"saga {key} belongs to no order" for key in sagas if key not in stored]
    for order_id, saga in sagas.items():
        found += [f"order {order_id} ({saga.state}): {why}" for why in _order(world, saga)]
    found += _stock(world, sagas)
    found += _history(world)
    found += _announcements(world)
    found += _outputs(world)
    found += _inboxes(world)
    found += alarms(world)
    if world.database.tables[PARKED]:
        found.append("rows were parked by the relay")
    return found


def _order(world: World, saga: Saga) -> Iterator[str]:
    """Money, goods and shipment of one order."""
    lines = [line for line in world.gateway.ledger.entries if line.order_id == saga.order_id]
    captured = [line.amount_minor for line in lines if (line.op, line.outcome) == ("charge", "ok")]
    refunded = [line.amount_minor for line in lines if (line.op, line.outcome) == ("refund", "ok")]
    if len(captured) > 1:
        yield f"captured {len(captured)} times"
    if len(refunded) > len(captured):
        yield "refunded more often than captured"
    balance = sum(captured) - sum(refunded)
    if saga.state is State.COMPLETED:
        yield from _completed(world, saga, balance)
    elif saga.final:
        yield from _cancelled(world, saga, balance)


def _completed(world: World, saga: Saga, balance: int) -> Iterator[str]:
    shipment, reservation, attempt = _records(world, saga)
    if balance != saga.total_minor:
        yield f"the balance is {balance}, the total {saga.total_minor}"
    if shipment is None or shipment.status != "SHIPPED":
        yield "not shipped"
    if reservation is None or reservation.status != "COMMITTED":
        yield f"its stock is not consumed: {reservation}"
    if attempt is None or attempt.status != "CHARGED":
        yield f"its payment is not recorded as charged: {attempt}"


def _cancelled(world: World, saga: Saga, balance: int) -> Iterator[str]:
    shipment, reservation, attempt = _records(world, saga)
    if balance:
        yield f"the balance is {balance}"
    if shipment is not None and shipment.status == "SHIPPED":
        yield "shipped"
    if reservation is not None and reservation.status in ("HELD", "COMMITTED"):
        yield f"its stock is {reservation.status}"
    if attempt is not None and attempt.status not in _UNCHARGED:
        yield f"its payment is recorded as {attempt.status}"


def _records(world: World, saga: Saga) -> tuple[Any, Any, Any]:
    tables = world.database.tables
    return tuple(tables[name].get(saga.order_id) for name in (SHIPMENT, RESERVATION, ATTEMPT))  # type: ignore[return-value]


_UNCHARGED = ("DECLINED", "REFUNDED", "EXPIRED", "CANCELLED")


def _stock(world: World, sagas: dict[str, Saga]) -> Iterator[str]:
    """Every unit is somewhere, and reservations say where."""
    tables = world.database.tables
    held: Counter[str] = Counter()
    consumed: Counter[str] = Counter()
    for order_id, lines in tables[LINE].items():
        row = tables[RESERVATION][order_id]
        for sku, quantity in lines:
            held[sku] += quantity * (row.status == "HELD")
            consumed[sku] += quantity * (row.status == "COMMITTED")
    for sku in SKUS:
        row = tables[STOCK][sku]
        if row.available + row.held + row.consumed != row.restocked or min(row) < 0:
            yield f"stock of {sku} is not conserved: {row}"
        if (row.held, row.consumed) != (held[sku], consumed[sku]):
            yield f"stock of {sku} is {row}, reservations say {held[sku]}, {consumed[sku]}"
    for order_id, saga in sagas.items():
        lines = tables[LINE].get(order_id, ())
        if saga.state is State.COMPLETED and sorted(lines) != _wanted(saga):
            yield f"order {order_id} holds {lines} instead of {saga.lines}"


def _wanted(saga: Saga) -> list[tuple[str, int]]:
    wanted: Counter[str] = Counter()
    for sku, quantity in saga.lines:
        wanted[sku] += quantity
    return sorted(wanted.items())


def _history(world: World) -> Iterator[str]:
    """The history of an order is one path: versions rise, nothing follows a final state, and every
    change of state was announced."""
    by_order: defaultdict[str, list[HistoryRow]] = defaultdict(list)
    for _, line in sorted(world.database.tables[HISTORY].items()):
        if line.status != CANCEL_REQUESTED or line.event:
            by_order[line.order_id].append(line)
    told: defaultdict[str, list[str]] = defaultdict(list)
    for event_id, (body, _) in _announced(world).items():
        told[body.order_id].append(body.status)
        del event_id
    for order_id, lines in by_order.items():
        states: list[str] = []
        version = 0
        for line in lines:
            if line.saga_version < version:
                yield f"order {order_id}: history goes back to version {line.saga_version}"
            version = line.saga_version
            if not states or states[-1] != line.status:
                if states and states[-1] in FINAL:
                    yield f"order {order_id}: {line.status} after {states[-1]}"
                states.append(line.status)
        if version > world.database.tables[SAGA][order_id].version:
            yield f"order {order_id}: history is ahead of its saga"
        if lines and states[-1] != world.database.tables[SAGA][order_id].state:
            yield f"order {order_id}: history ends {states[-1]}"
        if sorted(states) != sorted(told[order_id]):
            yield f"order {order_id}: {states} happened, {told[order_id]} were announced"


def _announcements(world: World) -> Iterator[str]:
    """First announcements of an order stand in the order of its versions."""
    seen: set[str] = set()
    told: dict[str, int] = {}
    for record in world.log.records(ORDER_STATUS_CHANGED.name):
        decoded = decode(record.topic, record.headers, record.key, record.value)
        if decoded.event_id in seen:
            continue
        seen.add(decoded.event_id)
        order_id, version = decoded.body.order_id, decoded.body.saga_version
        if version < told.get(order_id, 0):
            yield f"order {order_id}: version {version} was announced after {told[order_id]}"
        told[order_id] = version


def _announced(world: World) -> dict[str, tuple[Any, Any]]:
    found = {}
    for record in world.log.records(ORDER_STATUS_CHANGED.name):
        decoded = decode(record.topic, record.headers, record.key, record.value)
        found[decoded.event_id] = (decoded.body, record)
    return found


def _outputs(world: World) -> Iterator[str]:
    """What is stored as published stands on its topic, and one id has one content."""
    standing: set[tuple[str, bytes | None, bytes | None]] = set(world.faults.dropped)
    contents: dict[tuple[str, bytes], bytes | None] = {}
    for topic in [name for name in world.log.topics if name in _JUDGED]:
        for record in world.log.records(topic):
            standing.add((topic, record.key, record.value))
            if topic in RETRY_TIERS_NAMES or topic in DEAD_LETTER_TOPICS:
                continue
            event_id = dict(record.headers).get("ce_id", b"")
            content = contents.setdefault((topic, event_id), record.value)
            if content != record.value and b"not_after" not in (record.value or b""):
                yield f"{topic}: two contents of event {event_id.decode()}"
    for (consumer, event_id), row in inbox_rows(world):
        if row.status == Status.INTENT:
            yield f"{consumer} has left event {event_id} as INTENT"
        for output in unpack(row.outputs) if row.outputs else ():
            if (output.topic, output.key, output.value) not in standing:
                yield f"{consumer}: an output of event {event_id} is not on {output.topic}"


RETRY_TIERS_NAMES = frozenset(tier.name for tier in RETRY_TIERS.values())
_JUDGED = {*MESSAGE_TOPICS, *DEAD_LETTER_TOPICS, *RETRY_TIERS_NAMES}


def _inboxes(world: World) -> Iterator[str]:
    """Every record of an input topic has been finished by its consumer."""
    rows = dict(inbox_rows(world))
    for topic, consumer in _CONSUMER_OF.items():
        for record in world.log.records(topic):
            event_id = dict(record.headers).get("ce_id", b"").decode()
            if (consumer, event_id) not in rows:
                yield f"{consumer} has skipped event {event_id} of {topic}"
