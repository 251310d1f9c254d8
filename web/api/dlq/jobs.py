"""Jobs on dead letters: the answer to who asked for one, how far each is, and stopping one."""

from __future__ import annotations

from aiohttp import web

from app.db import dead_letter_jobs as jobs
from app.db.cursor import Cursor
from app.observability.health import json_response
from web.actor import actor_of
from web.api.dlq.requests import id_of, limit_of, place_of
from web.api.letters import JobsOut, job_out
from web.api.paging import next_cursor
from web.context import CONTEXT
from web.edge import REQUEST_ID
from web.problems import Problem, not_found


async def recent(request: web.Request) -> web.Response:
    """GET /api/dlq/jobs?limit=&after=: jobs, newest first."""
    context = request.app[CONTEXT]
    limit = limit_of(request)
    place = place_of(request)
    found = await jobs.recent(context.db, limit, place)
    last = found[-1] if len(found) == limit else None
    following = None if last is None else next_cursor(Cursor(last.created_at, last.id))
    return json_response(JobsOut([job_out(one) for one in found], following))


async def show(request: web.Request) -> web.Response:
    """GET /api/dlq/jobs/{id}: how far a job is."""
    found = await jobs.get(request.app[CONTEXT].db, id_of(request, "job"))
    if found is None:
        raise not_found("job")
    return json_response(job_out(found))


async def cancel(request: web.Request) -> web.Response:
    """POST /api/dlq/jobs/{id}/cancel: stop a job after the letters under way.

    409 if it has ended, or is a purge that has begun to delete: that one is finished.
    """
    context = request.app[CONTEXT]
    job_id = id_of(request, "job")
    asked = asked_of(request)
    async with context.db.transaction() as tx:
        stopped = await jobs.request_cancel(tx, job_id, asked)
    if not stopped:
        found = await jobs.get(context.db, job_id)
        if found is None:
            raise not_found("job")
        if found.status not in jobs.ENDED:
            raise Problem(
                409, "purge_begun", "The purge has begun to delete records, so it is finished."
            )
        raise Problem(409, "job_ended", f"The job is {found.status}.")
    return await accepted(request, job_id)


def asked_of(request: web.Request, reason: str = "") -> jobs.Request:
    """Return who asks for a job, why, under which request; raises Problem 400 for a bad name."""
    return jobs.Request(actor_of(request), reason, request[REQUEST_ID])


async def accepted(request: web.Request, job_id: str) -> web.Response:
    """Return the 202 with a job that was asked for, and where it is followed."""
    found = await jobs.get(request.app[CONTEXT].db, job_id)
    if found is None:
        raise not_found("job")
    answer = json_response(job_out(found), status=202)
    answer.headers["Location"] = f"/api/dlq/jobs/{job_id}"
    return answer
