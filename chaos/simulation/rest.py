"""What may never happen, and when a world has come to rest (liveness)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from faust.types import TP

from app.db.inbox import Status
from app.domain.definition import State
from app.domain.record import from_bytes
from app.messages import deadletter
from app.topics import DEAD_LETTER_TOPICS
from chaos.simulation.statements.inbox import INBOX
from chaos.simulation.statements.relay import OUTBOX
from chaos.simulation.statements.sagas import SAGA, SagaRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chaos.simulation.client import Customer
    from chaos.simulation.database import Tx
    from chaos.simulation.world import World


def endings(world: World) -> tuple[str, ...]:
    """How each order ended: state, and reason when there is one."""
    rows: Iterator[SagaRow] = iter(world.database.tables[SAGA].values())
    return tuple(sorted(f"{row.state}{'/' * bool(row.reason)}{row.reason}" for row in rows))


def watch(world: World) -> None:
    """Check every transaction at its commit: a saga moves from the version that is there."""

    def committed(tx: Tx) -> None:
        for (table, key), row in tx.writes.items():
            if table == SAGA and row is not None:
                before = world.database.tables[SAGA].get(key)
                world.note("saga", key, row.version, row.state)
                if before is not None and _goes_back(before, row):
                    world.violations.append(
                        f"saga {key}: version {row.version} over {before.version}"
                    )

    world.database.committed = committed


def _goes_back(before: SagaRow, row: SagaRow) -> bool:
    """Whether a write undoes another: a touch keeps the record, a move comes from its version."""
    if row.version == before.version:
        return row.body != before.body
    return row.version < before.version


def unrest(world: World, customers: Sequence[Customer]) -> str:
    """Say what is still to be done, empty when nothing is."""
    for customer in customers:
        if not customer.accepted:
            return f"order {customer.order_id} is not placed"
        row = world.database.tables[SAGA].get(customer.order_id)
        if row is None:
            return f"order {customer.order_id} has no saga"
        saga = from_bytes(row.body)
        parked = saga.state is State.PARKED and saga.due is None
        if not (saga.settled and saga.created) and not parked:
            return f"order {customer.order_id} is {saga.state}, version {saga.version}"
    if world.faults.held_back:
        return f"{world.faults.held_back} records are held back"
    if world.database.tables[OUTBOX]:
        return f"{len(world.database.tables[OUTBOX])} rows in the outbox"
    for group in world.groups.values():
        if not group.members:
            return f"{group.role} has no member"
        for topic in group.topics:
            for partition in range(world.log.partitions):
                if world.log.end(topic, partition) != group.committed.get(TP(topic, partition), 0):
                    return f"{group.role} has not finished {topic}-{partition}"
    ticked = [key for key, row in inbox_rows(world) if row.status == Status.TICKED]
    return f"tick {ticked[0]} is not published" if ticked else ""


def alarms(world: World) -> Iterator[str]:
    """Nothing is ever poison here, so no dead letter says so. May be asked at any time."""
    for topic in DEAD_LETTER_TOPICS:
        for record in world.log.records(topic):
            failure = deadletter.read_failure(record.headers)
            if failure.error_class == "poison":
                yield f"{topic}: {failure.error_reason} {failure.error_message}"


def inbox_rows(world: World) -> Iterator[tuple[Any, Any]]:
    """All rows of the inbox by (consumer, event id)."""
    yield from world.database.tables[INBOX].items()
