"""Consumers stopped by a flood of dead letters: what stopped them, and letting them go on."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from app.db import audit_log, floods
from app.observability.health import json_response
from web.actor import actor_of
from web.api.bodies import decode, read_json
from web.context import CONTEXT
from web.edge import REQUEST_ID
from web.problems import Problem, not_found
from web.routes import OPERATOR, Param, Route

LISTED_MAX = 200


class FloodOut(msgspec.Struct, frozen=True, rename="camel"):
    """The last flood of a consumer; the consumer stands still while `stopped`."""

    consumer: str
    stopped: bool
    dead_letters: int
    detail: str
    stopped_at: datetime
    released_at: datetime | None
    released_by: str | None


class FloodsOut(msgspec.Struct, frozen=True):
    """Floods, those that still stop their consumer first."""

    floods: list[FloodOut]


class ReleaseIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why the consumer may go on; may be absent."""

    reason: Annotated[str, Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*\Z")] = ""


_RELEASE = msgspec.json.Decoder(ReleaseIn)


async def recent(request: web.Request) -> web.Response:
    """The last flood of every consumer that ever had one."""
    found = await floods.recent(request.app[CONTEXT].db, LISTED_MAX)
    return json_response(FloodsOut([_out(one) for one in found]))


async def release(request: web.Request) -> web.Response:
    """Let a stopped consumer go on: the rest of its batch is dead-lettered, the count begins anew.

    404 for a consumer that never had a flood, 409 for one that is not stopped now.
    """
    body = decode(_RELEASE, await read_json(request)) if request.body_exists else ReleaseIn()
    consumer, actor = request.match_info["consumer"], actor_of(request)
    db = request.app[CONTEXT].db
    if "\0" in consumer:
        raise not_found("flood")
    async with db.transaction() as tx:
        released = await floods.release(tx, consumer, released_by=actor)
        if released is not None:
            audit_log.record(
                tx,
                actor=actor,
                action="flood.release",
                target=consumer,
                reason=body.reason,
                detail={"deadLetters": released.dead_letters, "detail": released.detail},
                request_id=request[REQUEST_ID],
            )
    if released is not None:
        return json_response(_out(released))
    known = {one.consumer for one in await floods.recent(db, LISTED_MAX)}
    if consumer not in known:
        raise not_found("flood")
    raise Problem(409, "not_stopped", f"Consumer {consumer} is not stopped: it was released.")


def _out(flood: floods.Flood) -> FloodOut:
    return FloodOut(
        consumer=flood.consumer,
        stopped=flood.released_at is None,
        dead_letters=flood.dead_letters,
        detail=flood.detail,
        stopped_at=flood.stopped_at,
        released_at=flood.released_at,
        released_by=flood.released_by or None,
    )


ROUTES = (
    Route("GET", "/api/dlq/floods", recent, "List floods of dead letters", FloodsOut, tag="dlq"),
    Route(
        "POST",
        "/api/dlq/floods/{consumer}/release",
        release,
        "Let a stopped consumer go on",
        FloodOut,
        body=ReleaseIn,
        body_required=False,
        params=(Param("consumer", str, "the consumer's name, such as payment", required=True),),
        problems=(400, 409, 413, 415, 422),
        headers=(OPERATOR,),
        tag="dlq",
    ),
)
