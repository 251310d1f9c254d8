"""GameDays through the API: start one of the catalogue, watch it, end it, read its report.

Whoever asks names a shipped experiment, never a file. A worker of role `gameday` executes what is
queued here; a lab starts one when the first GameDay is asked for, so that an idle lab pays nothing.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import uuid4

import msgspec
from aiohttp import web
from msgspec import Meta

from app import ids
from app.db import audit_log, gamedays
from app.db.cursor import Cursor
from app.observability.health import json_response
from chaos.gameday import lock, web_catalogue
from chaos.gameday.errors import GameDayError
from web.actor import actor_of
from web.api.bodies import decode, read_json
from web.api.paging import BEFORE, LIMIT, next_cursor, page_of
from web.context import CONTEXT
from web.edge import REQUEST_ID
from web.problems import Problem, invalid, not_found
from web.routes import OPERATOR, Param, Route, add_routes

if TYPE_CHECKING:
    from pathlib import Path

    from app.db.gamedays import RunRow
    from chaos.gameday.experiment import Experiment

REPORT_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""A report carries its own style, runs nothing and loads nothing."""


class OverridesIn(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What a run may do otherwise than its file says; what is absent stays as it is there."""

    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    rate_per_s: Annotated[float, Meta(ge=0.5, le=2_000)] | None = None
    duration_s: Annotated[float, Meta(ge=1, le=3_600)] | None = None
    warm_up_s: Annotated[float, Meta(ge=0, le=600)] | None = None
    recovery_s: Annotated[float, Meta(ge=1, le=1_800)] | None = None


class StartIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which experiment of the catalogue, and what is to be otherwise."""

    experiment: Annotated[str, Meta(min_length=1, max_length=100)]
    overrides: OverridesIn = OverridesIn()


class RunOut(msgspec.Struct, frozen=True, rename="camel"):
    """One GameDay. `status` is QUEUED, RUNNING or ENDED; `verdict` is there once it has ended."""

    id: str
    experiment: str
    title: str
    status: str
    verdict: str | None
    phase: str | None
    progress: dict[str, Any] | None
    abort_requested: bool
    options: dict[str, Any]
    requested_by: str
    error: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    notice: str | None = None


class StatusOut(msgspec.Struct, frozen=True):
    """The GameDay that goes on or waits, if there is one."""

    running: RunOut | None


class RunsOut(msgspec.Struct, frozen=True):
    """A part of the history, newest first."""

    runs: list[RunOut]
    next: str | None


_START: Final = msgspec.json.Decoder(StartIn)


async def start(request: web.Request) -> web.Response:
    """POST /api/gameday/start: queue a run; 409 while another one is open."""
    actor = actor_of(request)
    wanted = decode(_START, await read_json(request))
    context = request.app[CONTEXT]
    experiment = await asyncio.to_thread(_experiment, wanted)
    options = msgspec.to_builtins(experiment.knobs)
    run_id = str(uuid4())
    await _expire(request)
    async with context.db.transaction() as tx:
        queued = await gamedays.queue(
            tx,
            run_id,
            experiment.name,
            experiment.title,
            msgspec.json.encode(options).decode(),
            actor,
        )
        if not queued:
            raise Problem(
                409, "gameday_open", "A GameDay goes on or waits: see /api/gameday/status."
            )
        audit_log.record(
            tx,
            actor=actor,
            action="gameday.start",
            target=run_id,
            detail={"experiment": experiment.name, **options},
            request_id=request[REQUEST_ID],
        )
        await tx.commit()
    notice = await asyncio.to_thread(_ensure_worker, context.settings.lab_dir)
    row = await gamedays.show(context.db, run_id)
    assert row is not None
    return json_response(_out(row, notice), status=202)


def _experiment(wanted: StartIn) -> Experiment:
    from chaos.gameday import catalogue
    from chaos.gameday.source import Mistake

    try:
        found = catalogue.shipped(wanted.experiment)
        return found.with_overrides(msgspec.structs.asdict(wanted.overrides))
    except GameDayError as error:
        raise invalid(str(error), "$.experiment") from None
    except Mistake as error:
        raise invalid(error.reason, "$.overrides") from None


def _ensure_worker(lab_dir: Path) -> str:
    """Have one worker of role gameday; returns what somebody has to do, empty when nothing."""
    from chaos.lab.client import Lab
    from chaos.lab.process import LabError

    lab = Lab(lab_dir)
    try:
        rows = lab.status()["processes"]
        if any(row["role"] == "gameday" and row["state"] != "stopped" for row in rows):
            return ""
        lab.scale("gameday", 1, wait=False)
    except LabError as error:
        return (
            f"No worker of role gameday could be started ({error.detail}):"
            " start one with `symphony worker gameday`."
        )
    return "A worker of role gameday is being started; the run begins when it is ready."


async def status(request: web.Request) -> web.Response:
    """GET /api/gameday/status: the open run, its phase and its last figures."""
    await _expire(request)
    row = await gamedays.current(request.app[CONTEXT].db)
    return json_response(StatusOut(_out(row) if row else None))


async def runs(request: web.Request) -> web.Response:
    """GET /api/gameday/runs?limit=&before=: the history, newest first."""
    limit, before = page_of(request)
    rows = await gamedays.recent(request.app[CONTEXT].db, limit, before)
    last = Cursor(rows[-1].created_at, rows[-1].id) if len(rows) == limit else None
    return json_response(RunsOut([_out(row) for row in rows], next_cursor(last)))


async def show(request: web.Request) -> web.Response:
    """GET /api/gameday/runs/{id}."""
    return json_response(_out(await _row(request)))


async def abort(request: web.Request) -> web.Response:
    """POST /api/gameday/runs/{id}/abort: it ends its faults, recovers, and is audited.

    A run that waits ends at once; 409 for one that has ended.
    """
    actor, row = actor_of(request), await _row(request)
    db = request.app[CONTEXT].db
    async with db.transaction() as tx:
        if not await gamedays.abort(tx, row.id):
            raise Problem(409, "gameday_ended", "This GameDay has ended already.")
        audit_log.record(
            tx,
            actor=actor,
            action="gameday.abort",
            target=row.id,
            request_id=request[REQUEST_ID],
        )
        await tx.commit()
    found = await gamedays.show(db, row.id)
    assert found is not None
    return json_response(_out(found), status=202)


async def report(request: web.Request) -> web.Response:
    """GET /api/gameday/runs/{id}/report: the HTML page; 404 until the run has ended with one."""
    page = await gamedays.report(request.app[CONTEXT].db, _id_of(request))
    if page is None:
        raise not_found("report")
    return web.Response(
        body=page,
        content_type="text/html",
        charset="utf-8",
        headers={"Content-Security-Policy": REPORT_POLICY},
    )


async def journal(request: web.Request) -> web.Response:
    """GET /api/gameday/runs/{id}/journal: Chaos Toolkit's journal with ours under x-symphony."""
    found = await gamedays.journal(request.app[CONTEXT].db, _id_of(request))
    if found is None:
        raise not_found("journal")
    return json_response(found)


async def _expire(request: web.Request) -> None:
    """End a run whose process is gone."""
    context = request.app[CONTEXT]
    await gamedays.expire(context.db, partial(lock.held, context.settings.lab_dir))


async def _row(request: web.Request) -> RunRow:
    row = await gamedays.show(request.app[CONTEXT].db, _id_of(request))
    if row is None:
        raise not_found("GameDay")
    return row


def _id_of(request: web.Request) -> str:
    found = request.match_info["run_id"]
    if not ids.is_uuid(found):
        raise not_found("GameDay")
    return found


def _out(row: RunRow, notice: str = "") -> RunOut:
    return RunOut(
        id=row.id,
        experiment=row.experiment,
        title=row.title,
        status=row.status,
        verdict=row.verdict or None,
        phase=row.phase or None,
        progress=row.progress,
        abort_requested=row.abort_requested,
        options=row.options,
        requested_by=row.requested_by,
        error=row.error or None,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        notice=notice or None,
    )


_ID = (Param("run_id", str, "the id of a GameDay", required=True),)
ROUTES: Final = (
    Route(
        "POST",
        "/api/gameday/start",
        start,
        "Queue a GameDay",
        RunOut,
        StartIn,
        status=202,
        problems=(400, 409, 413, 415, 422),
        tag="gameday",
        headers=(OPERATOR,),
    ),
    Route("GET", "/api/gameday/status", status, "See the open GameDay", StatusOut, tag="gameday"),
    Route(
        "GET",
        "/api/gameday/runs",
        runs,
        "List GameDays",
        RunsOut,
        params=(LIMIT, BEFORE),
        problems=(400,),
        tag="gameday",
    ),
    Route(
        "GET",
        "/api/gameday/runs/{run_id}",
        show,
        "Read a GameDay",
        RunOut,
        params=_ID,
        tag="gameday",
    ),
    Route(
        "POST",
        "/api/gameday/runs/{run_id}/abort",
        abort,
        "End a GameDay",
        RunOut,
        status=202,
        params=_ID,
        problems=(400, 409),
        tag="gameday",
        headers=(OPERATOR,),
    ),
    Route(
        "GET",
        "/api/gameday/runs/{run_id}/report",
        report,
        "Read the report of a GameDay",
        str,
        params=_ID,
        tag="gameday",
        media="text/html",
    ),
    Route(
        "GET",
        "/api/gameday/runs/{run_id}/journal",
        journal,
        "Read the journal of a GameDay",
        dict[str, Any],
        params=_ID,
        tag="gameday",
    ),
    *web_catalogue.ROUTES,
)


def extend(application: web.Application) -> None:
    """Serve GameDays."""
    add_routes(application, ROUTES)
