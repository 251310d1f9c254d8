"""Actions of an operator on a saga: checked, recorded, handed to the orchestrator."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import uuid4

import msgspec
from aiohttp import web
from msgspec import Meta

from app.db import audit_log, intake, outbox, saga_reads
from app.domain.operations import REFUSALS, Action, legal
from app.messages import OrderOperate, emit
from app.observability.health import json_response
from app.observability.tracing import now_ns
from app.topics import ORDER_OPERATE
from web.actor import actor_of
from web.api.bodies import decode, read_json
from web.api.orders import order_id_of
from web.api.sagas import read_body
from web.context import CONTEXT
from web.edge import REQUEST_ID, trace_of
from web.messages import cause_of, committed, source_of
from web.problems import Problem, invalid, not_found
from web.routes import OPERATOR, Route

VERSION_MAX: Final = 10**9


class ActionIn(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What to do, and the saga's version that the operator has looked at; a skip needs a reason."""

    action: Action
    expected_version: Annotated[int, Meta(ge=1, le=VERSION_MAX)]
    reason: Annotated[str, Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*\Z")] = ""


class ActionOut(msgspec.Struct, frozen=True, rename="camel"):
    """The action was taken; the order's history tells what became of it.

    It is told there under `version` + 1 or later: `operator_retried` and so on, or
    `operator_refused` when the saga has moved meanwhile.
    """

    order_id: str
    action: Action
    state: str
    version: int
    event_id: str


_ACTION: Final = msgspec.json.Decoder(ActionIn)


async def act(request: web.Request) -> web.Response:
    """POST /api/sagas/{orderId}/actions: 202, the orchestrator decides by the version given.

    409 at once when the saga is at another version or in a state that does not allow it; the detail
    says what to do instead.
    """
    context = request.app[CONTEXT]
    order_id = order_id_of(request, "saga")
    operator = actor_of(request)
    wanted = decode(_ACTION, await read_json(request))
    if wanted.action == "skip" and not wanted.reason.strip():
        raise invalid("a skip needs a reason: it is audited as a waiver", "$.reason")
    now = context.clock.now()
    event_id, began_ns = str(uuid4()), now_ns()
    event = emit(
        cause_of(request, order_id),
        ORDER_OPERATE,
        OrderOperate(
            order_id=order_id,
            action=wanted.action,
            expected_version=wanted.expected_version,
            operator=operator,
            reason=wanted.reason,
        ),
        event_id=event_id,
        now=now,
        source=source_of(context.settings),
    )
    async with context.db.transaction() as tx:
        intake.lock(tx, order_id)
        row = await saga_reads.saga(tx, order_id)
        _check(row, wanted)
        assert row is not None, "checked"
        outbox.append(tx, [event], now)
        audit_log.record(
            tx,
            actor=operator,
            action=f"saga.{wanted.action}",
            target=order_id,
            reason=wanted.reason,
            detail={"event_id": event_id, "expected_version": wanted.expected_version},
            request_id=request[REQUEST_ID],
        )
    committed((event,), trace_of(request), began_ns)
    return json_response(
        ActionOut(order_id, wanted.action, row.state, row.version, event_id), status=202
    )


def _check(row: saga_reads.SagaRow | None, wanted: ActionIn) -> None:
    """Refuse early what the orchestrator would refuse; it checks again, under its version guard."""
    if row is None:
        raise not_found("saga")
    if row.version != wanted.expected_version:
        raise Problem(
            409,
            "stale_version",
            f"The saga is at version {row.version}, not {wanted.expected_version}: look at it"
            " again and decide anew.",
            version=row.version,
        )
    saga = read_body(row)
    if saga is None:
        raise Problem(409, "unreadable_saga", "A newer release wrote this saga: act through it.")
    refusal = legal(saga, wanted.action)
    if refusal:
        raise Problem(
            409, refusal, f"{wanted.action} is not possible: {REFUSALS[refusal]}.", state=row.state
        )


ROUTES: Final = (
    Route(
        "POST", "/api/sagas/{order_id}/actions", act, "Act on a saga as an operator",
        ActionOut, ActionIn, status=202, problems=(400, 409, 413, 415, 422), headers=(OPERATOR,),
        examples=(
            ("retry", {"action": "retry", "expectedVersion": 4, "reason": "the gateway is back"}),
            ("skip", {"action": "skip", "expectedVersion": 9, "reason": "refunded by bank draft"}),
        ),
    ),
)  # fmt: skip
