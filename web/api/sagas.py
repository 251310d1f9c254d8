"""Views of sagas: where an order stands, step by step."""

from __future__ import annotations

from datetime import datetime

import msgspec
from aiohttp import web

from app.db import order_reads
from app.domain.record import Saga, from_bytes
from app.errors import Poison
from app.observability.health import json_response
from web.api.orders import HistoryOut, history_out, order_id_of
from web.api.paging import BEFORE, LIMIT, next_cursor, page_of
from web.context import CONTEXT
from web.problems import not_found
from web.routes import Route


class StepOut(msgspec.Struct, frozen=True, rename="camel"):
    """One step of a saga; `reference` is the participant's name for its effect."""

    name: str
    kind: str
    status: str
    attempt: int
    compensation_attempt: int
    reference: str


class SagaOut(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One saga; `readable` is false when a newer schema wrote it, `history` is for a single one."""

    order_id: str
    state: str
    final: bool
    version: int
    readable: bool
    definition: str | None
    reason: str | None
    cancel: str | None
    redrives: int
    steps: list[StepOut]
    due_at: datetime | None
    started_at: datetime
    updated_at: datetime
    history: list[HistoryOut] | None = None


class SagasOut(msgspec.Struct, frozen=True):
    """A part of the list of sagas."""

    sagas: list[SagaOut]
    next: str | None


async def show(request: web.Request) -> web.Response:
    """GET /api/sagas/{orderId}: the saga with its history; 404 before the orchestrator saw it."""
    db = request.app[CONTEXT].db
    order_id = order_id_of(request)
    row = await order_reads.saga(db, order_id)
    if row is None:
        raise not_found("saga")
    entries = await order_reads.history(db, order_id)
    return json_response(saga_out(row, [history_out(entry) for entry in entries]))


async def recent(request: web.Request) -> web.Response:
    """GET /api/sagas?limit=&before=: those of the newest orders first."""
    limit, before = page_of(request)
    rows = await order_reads.recent_sagas(request.app[CONTEXT].db, limit, before)
    following = next_cursor(rows[-1][1]) if len(rows) == limit else None
    return json_response(SagasOut([saga_out(row) for row, _ in rows], following))


def saga_out(row: order_reads.SagaRow, history: list[HistoryOut] | None = None) -> SagaOut:
    """Return the JSON form of a saga."""
    saga = read_body(row)
    return SagaOut(
        order_id=row.order_id,
        state=row.state,
        final=row.terminal,
        version=row.version,
        readable=saga is not None,
        definition=saga.definition if saga else None,
        reason=(saga.reason if saga else "") or None,
        cancel=(saga.cancel if saga else "") or None,
        redrives=saga.tries if saga else 0,
        steps=steps_of(saga),
        due_at=row.next_due,
        started_at=row.created_at,
        updated_at=row.updated_at,
        history=history,
    )


def read_body(row: order_reads.SagaRow) -> Saga | None:
    """Return the domain's saga, None when its bytes are of a schema this code does not know."""
    try:
        return from_bytes(row.body)
    except Poison:
        return None


def steps_of(saga: Saga | None) -> list[StepOut]:
    """Return the steps of a saga in the order of its definition."""
    if saga is None:
        return []
    return [
        StepOut(
            name=step.name,
            kind=step.kind.value,
            status=record.status,
            attempt=record.attempt,
            compensation_attempt=record.compensation_attempt,
            reference=record.reference,
        )
        for step, record in zip(saga.plan.steps, saga.steps, strict=False)
    ]


ROUTES = (
    Route(
        "GET", "/api/sagas", recent, "List sagas", SagasOut, params=(LIMIT, BEFORE), problems=(400,)
    ),
    Route("GET", "/api/sagas/{order_id}", show, "Read a saga", SagaOut),
)
