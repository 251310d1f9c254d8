"""Views of sagas: where an order stands, step by step."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from app.db import order_reads, saga_reads
from app.domain.definition import REASONS, State
from app.domain.operations import possible
from app.domain.record import Saga, from_bytes
from app.errors import Poison
from app.observability.health import json_response
from web.api.filters import SECONDS_MAX, choice, choice_of, flag_of, seconds_of
from web.api.orders import HistoryOut, history_out, order_id_of
from web.api.paging import BEFORE, LIMIT, next_cursor, page_of
from web.context import CONTEXT
from web.problems import Problem, not_found
from web.routes import Param, Route

STATES: Final = tuple(str(state) for state in State)


class StepOut(msgspec.Struct, frozen=True, rename="camel"):
    """One step of a saga; `reference` is the participant's name for its effect.

    `skipped`: an operator gave its last command up.
    """

    name: str
    kind: str
    status: str
    attempt: int
    compensation_attempt: int
    reference: str
    skipped: bool


class SagaOut(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One saga; `readable` is false when a newer schema wrote it, `history` is for a single one.

    `since` is when it entered its state and `why` what its history says of that. `outstanding` is
    the operation that is awaited or parked, `actions` what an operator can do about it.
    `traceparent` is the order's trace, in W3C's form.
    """

    order_id: str
    state: str
    final: bool
    version: int
    readable: bool
    definition: str | None
    reason: str | None
    cancel: str | None
    redrives: int
    since: datetime | None
    why: str | None
    outstanding: str | None
    actions: list[str]
    steps: list[StepOut]
    due_at: datetime | None
    started_at: datetime
    updated_at: datetime
    correlation_id: str | None
    traceparent: str | None
    history: list[HistoryOut] | None = None


class SagasOut(msgspec.Struct, frozen=True):
    """A part of the list of sagas."""

    sagas: list[SagaOut]
    next: str | None


async def show(request: web.Request) -> web.Response:
    """GET /api/sagas/{orderId}: the saga with its history; 404 before the orchestrator saw it."""
    db = request.app[CONTEXT].db
    order_id = order_id_of(request, "saga")
    row = await saga_reads.saga(db, order_id)
    if row is None:
        raise not_found("saga")
    entries = await order_reads.history(db, order_id)
    return json_response(saga_out(row, [history_out(entry) for entry in entries]))


async def recent(request: web.Request) -> web.Response:
    """GET /api/sagas?limit=&before=&state=&parked=&reason=&olderThan=: of the newest orders first.

    `next` continues until it is null. `parked=true` is the list of those that wait for a person.
    `olderThan` gives sagas that are not over and have been in their state for so many seconds. With
    a final `state`, or a `reason`, a page may hold fewer sagas than `limit` and have a `next`.
    """
    context = request.app[CONTEXT]
    limit, before = page_of(request)
    state = choice_of(request, "state", STATES)
    if flag_of(request, "parked"):
        if state not in ("", State.PARKED):
            raise Problem(400, "bad_parameter", f"parked=true and state={state} exclude each other")
        state = str(State.PARKED)
    age_s = seconds_of(request, "olderThan")
    wanted = saga_reads.SagaFilter(
        state=state,
        reason=choice_of(request, "reason", REASONS),
        entered_before=None if age_s is None else context.clock.now() - timedelta(seconds=age_s),
    )
    page = await saga_reads.sagas(context.db, limit, before, wanted)
    return json_response(
        SagasOut([saga_out(row) for row in page.sagas], next_cursor(page.following))
    )


def saga_out(row: saga_reads.SagaRow, history: list[HistoryOut] | None = None) -> SagaOut:
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
        redrives=saga.redrives if saga else 0,
        since=row.since,
        why=row.why or None,
        outstanding=(saga.outstanding if saga else "") or None,
        actions=list(possible(saga)) if saga else [],
        steps=steps_of(saga),
        due_at=row.next_due,
        started_at=row.created_at,
        updated_at=row.updated_at,
        correlation_id=(saga.correlation_id if saga else "") or None,
        traceparent=(saga.traceparent if saga else "") or None,
        history=history,
    )


def read_body(row: saga_reads.SagaRow) -> Saga | None:
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
            skipped=record.skipped,
        )
        for step, record in zip(saga.plan.steps, saga.steps, strict=False)
    ]


_LIST: Final = (
    LIMIT,
    BEFORE,
    choice("state", STATES, "only sagas in this state"),
    Param("parked", bool, "only those that wait for a person"),
    choice("reason", REASONS, "only orders that end, or ended, for this reason"),
    Param(
        "olderThan",
        Annotated[float, Meta(ge=0, le=SECONDS_MAX)],
        "only sagas that are not over and entered their state so many seconds ago",
    ),
)
ROUTES: Final = (
    Route("GET", "/api/sagas", recent, "List sagas", SagasOut, params=_LIST, problems=(400,)),
    Route("GET", "/api/sagas/{order_id}", show, "Read a saga", SagaOut),
)
