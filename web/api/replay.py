"""Consumer-group time travel: have a role read the last minutes of its topics again."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated
from uuid import uuid4

import msgspec
from aiohttp import web
from msgspec import Meta

from app.db import audit_log, journal, rewinds
from app.domain.duration import parse_duration
from app.ids import is_uuid
from app.observability.health import json_response
from app.roles import ROLES, Role
from app.settings import Settings
from app.topics import ORDER_RETENTION_S
from web.actor import actor_of
from web.api.bodies import decode, read_json
from web.context import CONTEXT
from web.edge import REQUEST_ID
from web.problems import Problem, invalid, not_found
from web.routes import OPERATOR, Param, Route

LISTED_MAX = 100
SILENT_S = 30.0
"""A worker that gave no sign of life for so long does not run any more."""


class ReplayIn(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """`consumer_group_id` is a role or its group's name, `duration` how far back: 5m or PT5M."""

    consumer_group_id: Annotated[str, Meta(min_length=1, max_length=100)]
    duration: Annotated[str, Meta(min_length=1, max_length=40)]
    reason: Annotated[str, Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*\Z")] = ""


class PositionOut(msgspec.Struct, frozen=True):
    """A partition's committed offset before and after: those in between are read again."""

    topic: str
    partition: int
    before: int
    after: int


class ReplayOut(msgspec.Struct, frozen=True, rename="camel"):
    """One replay: QUEUED until the role's workers have stopped, then DONE, or FAILED with `error`.

    `records` is how many are read again, null until that is known; so are the positions.
    """

    id: str
    role: str
    consumer_group_id: str
    since: datetime
    status: str
    records: int | None
    positions: list[PositionOut] | None
    requested_by: str
    reason: str | None
    error: str | None
    created_at: datetime
    ended_at: datetime | None


class ReplaysOut(msgspec.Struct, frozen=True):
    """The newest replays first."""

    replays: list[ReplayOut]


_BODY = msgspec.json.Decoder(ReplayIn)


async def create(request: web.Request) -> web.Response:
    """Have every worker of a role stop in good order, and the role read again.

    The workers are started again by their supervisor; none joins before the offsets are set. What
    is read again has no second effect. 422 for an unknown role or one that reads no topics, or for
    a duration that is none; 409 while the role has a replay queued, or no worker to carry it out.
    """
    body = decode(_BODY, await read_json(request))
    context, actor = request.app[CONTEXT], actor_of(request)
    role = _role(body.consumer_group_id, context.settings)
    duration = _duration(body.duration)
    workers = await journal.live_workers(context.db, SILENT_S)
    if role.name not in {worker.role for worker in workers}:
        raise Problem(
            409,
            "no_workers",
            f"No worker of role {role.name} runs: start one (symphony worker {role.name}).",
        )
    replay_id = str(uuid4())
    since = context.clock.now() - duration
    async with context.db.transaction() as tx:
        queued = await rewinds.queue(tx, replay_id, role.name, since, by=actor, reason=body.reason)
        if queued:
            audit_log.record(
                tx,
                actor=actor,
                action="role.replay",
                target=role.name,
                reason=body.reason,
                detail={"id": replay_id, "duration": body.duration, "since": since.isoformat()},
                request_id=request[REQUEST_ID],
            )
    if not queued:
        raise Problem(
            409,
            "replay_queued",
            f"Role {role.name} has a replay queued already: see GET /api/replay.",
        )
    found = await rewinds.get(context.db, replay_id)
    assert found is not None
    return json_response(_out(found, context.settings), status=202)


async def show(request: web.Request) -> web.Response:
    """How far one replay is; 404 for one that does not exist."""
    context, replay_id = request.app[CONTEXT], request.match_info["replay_id"]
    found = await rewinds.get(context.db, replay_id) if is_uuid(replay_id) else None
    if found is None:
        raise not_found("replay")
    return json_response(_out(found, context.settings))


async def recent(request: web.Request) -> web.Response:
    """The newest replays of all roles."""
    context = request.app[CONTEXT]
    found = await rewinds.recent(context.db, LISTED_MAX)
    return json_response(ReplaysOut([_out(one, context.settings) for one in found]))


def _role(name: str, settings: Settings) -> Role:
    """The role that is meant; raises Problem 422."""
    known = {one.name: one for one in ROLES.values() if settings.lab or not one.lab_only}
    readers = ", ".join(one.name for one in known.values() if one.consumes)
    role = known.get(name.removeprefix(f"{settings.namespace}-"))
    if role is None:
        raise invalid(f"there is no such role or group; those that read topics: {readers}",
                      "$.consumerGroupId")  # fmt: skip
    if not role.consumes:
        raise invalid(f"role {role.name} reads no topics; those that do: {readers}",
                      "$.consumerGroupId")  # fmt: skip
    return role


def _duration(text: str) -> timedelta:
    """How far back; raises Problem 422."""
    try:
        duration = parse_duration(text)
    except ValueError as error:
        raise invalid(str(error), "$.duration") from None
    longest = timedelta(seconds=ORDER_RETENTION_S)
    if duration > longest:
        raise invalid(f"topics are kept for {longest.days} days: at most {longest.days}d",
                      "$.duration")  # fmt: skip
    return duration


def _out(found: rewinds.Rewind, settings: Settings) -> ReplayOut:
    listed = found.positions
    return ReplayOut(
        id=found.id,
        role=found.role,
        consumer_group_id=f"{settings.namespace}-{found.role}",
        since=found.since,
        status=found.status,
        records=None if listed is None else sum(one.before - one.after for one in listed),
        positions=None if listed is None else [PositionOut(*one) for one in listed],
        requested_by=found.requested_by,
        reason=found.reason or None,
        error=found.error or None,
        created_at=found.created_at,
        ended_at=found.ended_at,
    )


ROUTES = (
    Route(
        "POST",
        "/api/replay",
        create,
        "Have a role read the last minutes again",
        ReplayOut,
        body=ReplayIn,
        status=202,
        problems=(400, 409, 413, 415, 422),
        headers=(OPERATOR,),
        examples=(("payment", {"consumerGroupId": "symphony-payment", "duration": "5m"}),),
        tag="replay",
    ),
    Route("GET", "/api/replay", recent, "List replays", ReplaysOut, tag="replay"),
    Route(
        "GET",
        "/api/replay/{replay_id}",
        show,
        "Read how far a replay is",
        ReplayOut,
        params=(Param("replay_id", str, "the id of a replay", required=True),),
        tag="replay",
    ),
)
