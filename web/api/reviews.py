"""Views of the review queue: orders that a person must look at, and the decision."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from app.db import audit_log, reviews
from app.db.cursor import OLDEST, Cursor
from app.messages import OrderReviewed
from app.observability import metrics
from app.observability.health import json_response
from app.observability.tracing import now_ns
from web.actor import actor_of
from web.api.bodies import decode, read_json
from web.api.drafts import reviewed_event
from web.api.money import format_minor
from web.api.orders import order_id_of
from web.api.paging import LIMIT, cursor_of, limit_of, next_cursor
from web.api.screening import REVIEW
from web.context import CONTEXT
from web.edge import REQUEST_ID, trace_of
from web.messages import cause_of, committed, source_of
from web.problems import Problem, not_found
from web.routes import OPERATOR, Param, Route

Decision = Literal["APPROVED", "REJECTED"]
ReasonText = Annotated[str, Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
GivenText = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+\Z")]


class ApproveIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why the order may go on; may be absent."""

    reason: ReasonText = ""


class RejectIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why the order is rejected."""

    reason: GivenText


class FraudReasonOut(msgspec.Struct, frozen=True):
    """A rule that applied: its name, its points, the facts."""

    rule: str
    points: int
    detail: str


class PendingOut(msgspec.Struct, frozen=True, rename="camel"):
    """One order that waits for a person, since `age_s` seconds; `score` is from 0 to 100."""

    order_id: str
    customer_id: str
    total: str
    total_minor: int
    currency: str
    score: int
    reasons: list[FraudReasonOut]
    created_at: datetime
    age_s: float


class PendingReviewOut(msgspec.Struct, frozen=True):
    """A part of the review queue, the longest waiting first."""

    orders: list[PendingOut]
    next: str | None


class ReviewOut(msgspec.Struct, frozen=True, rename="camel"):
    """The score of an order that was held or rejected; no `decision` while a person has none."""

    order_id: str
    score: int
    reasons: list[FraudReasonOut]
    decision: Literal["", "APPROVED", "REJECTED", "AUTO_REJECTED"]
    decided_by: str
    decision_reason: str
    created_at: datetime
    decided_at: datetime | None


class ReviewedOut(msgspec.Struct, frozen=True, rename="camel"):
    """A decision was taken in; the order's status follows as soon as its saga has heard of it."""

    order_id: str
    decision: Decision
    decided_by: str
    reason: str
    decided_at: datetime


_APPROVE = msgspec.json.Decoder(ApproveIn)
_REJECT = msgspec.json.Decoder(RejectIn)


async def pending(request: web.Request) -> web.Response:
    """GET /api/orders/pending-review?limit=&after=: the longest waiting first, with their scores.

    Orders that were cancelled meanwhile are left out.
    """
    context = request.app[CONTEXT]
    limit = limit_of(request)
    after = cursor_of(request.query.get("after", ""), "after", OLDEST)
    rows = await reviews.pending(context.db, limit, after)
    following = None
    if len(rows) == limit:
        following = next_cursor(Cursor(rows[-1].created_at, rows[-1].order_id))
    now = context.clock.now()
    return json_response(PendingReviewOut([_pending_out(row, now) for row in rows], following))


async def show(request: web.Request) -> web.Response:
    """GET /api/orders/{orderId}/review: its score and its decision; 404 when it was never held."""
    row = await reviews.review(request.app[CONTEXT].db, order_id_of(request))
    if row is None:
        raise not_found("review")
    return json_response(ReviewOut(**{**row._asdict(), "reasons": reasons_out(row.reasons)}))


async def approve(request: web.Request) -> web.Response:
    """POST /api/orders/{orderId}/approve: 202, the saga begins; 409 when it cannot be decided."""
    body = decode(_APPROVE, await read_json(request)) if request.body_exists else ApproveIn()
    return await _decide(request, "APPROVED", body.reason)


async def reject(request: web.Request) -> web.Response:
    """POST /api/orders/{orderId}/reject {reason}: 202, it ends REJECTED; 409 as for approve."""
    body = decode(_REJECT, await read_json(request))
    return await _decide(request, "REJECTED", body.reason)


async def _decide(request: web.Request, decision: Decision, reason: str) -> web.Response:
    context = request.app[CONTEXT]
    order_id = order_id_of(request)
    operator = actor_of(request)
    now, began_ns = context.clock.now(), now_ns()
    event = reviewed_event(
        OrderReviewed(
            order_id=order_id,
            approved=decision == "APPROVED",
            reviewed_by=operator,
            reason=reason,
        ),
        cause_of(request, order_id),
        now,
        source_of(context.settings),
    )
    async with context.db.transaction() as tx:
        held = await reviews.lock(tx, order_id)
        if held is None:
            raise not_found("order")
        refuse_undecidable(held)
        if not await reviews.decide(
            tx, order_id, event, decision=decision, decided_by=operator, reason=reason, now=now
        ):
            raise Problem(409, "already_decided", "Somebody else has just decided.")
        audit_log.record(
            tx,
            actor=operator,
            action="order.approve" if decision == "APPROVED" else "order.reject",
            target=order_id,
            reason=reason,
            request_id=request[REQUEST_ID],
        )
    committed((event,), trace_of(request), began_ns)
    metrics.FRAUD_DECIDED.child(decision.lower()).inc()
    return json_response(ReviewedOut(order_id, decision, operator, reason, now), status=202)


def refuse_undecidable(held: reviews.Held) -> None:
    """Raise Problem 409 unless the order waits for a person."""
    if held.decision is None:
        raise Problem(409, "not_under_review", "The order was never held for review.")
    if held.decision:
        raise Problem(409, "already_decided", f"The order is {held.decision} already.")
    if held.state != REVIEW:
        raise Problem(409, "not_under_review", f"The order is {held.state}.")


def reasons_out(reasons: list[dict[str, object]]) -> list[FraudReasonOut]:
    """Return the JSON form of stored reasons."""
    return msgspec.convert(reasons, list[FraudReasonOut])


def _pending_out(row: reviews.PendingRow, now: datetime) -> PendingOut:
    return PendingOut(
        order_id=row.order_id,
        customer_id=row.customer_id,
        total=format_minor(row.total_minor, row.currency),
        total_minor=row.total_minor,
        currency=row.currency,
        score=row.score,
        reasons=reasons_out(row.reasons),
        created_at=row.created_at,
        age_s=round(max(0.0, (now - row.created_at).total_seconds()), 3),
    )


_LIST = (LIMIT, Param("after", str, "`next` of an earlier answer"))
ROUTES = (
    Route(
        "GET", "/api/orders/pending-review", pending, "List orders that wait for a review",
        PendingReviewOut, params=_LIST, problems=(400,), tag="review",
    ),
    Route(
        "GET", "/api/orders/{order_id}/review", show, "Read an order's score and review",
        ReviewOut, tag="review",
    ),
    Route(
        "POST", "/api/orders/{order_id}/approve", approve, "Approve an order under review",
        ReviewedOut, ApproveIn, status=202, problems=(400, 409, 413, 415, 422), tag="review",
        body_required=False, headers=(OPERATOR,),
        examples=(("reason", {"reason": "known customer"}),),
    ),
    Route(
        "POST", "/api/orders/{order_id}/reject", reject, "Reject an order under review",
        ReviewedOut, RejectIn, status=202, problems=(400, 409, 413, 415, 422), tag="review",
        headers=(OPERATOR,), examples=(("reason", {"reason": "stolen card"}),),
    ),
)  # fmt: skip
