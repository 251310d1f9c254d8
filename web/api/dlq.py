"""Dead letters through the API: look, replay, edit, discard, purge; jobs do the work.

What changes anything is checked, recorded and queued in one transaction and answered with 202; role
dlq does it. Nothing is half-applied: one unknown letter refuses the whole request.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import uuid4

import msgspec
from aiohttp import web
from msgspec import Meta

from app import ids as identity
from app.db import dead_letter_jobs as jobs
from app.db import deadletters
from app.db.dead_letter_jobs import Work
from app.db.deadletters import Place
from app.db.order_reads import Cursor
from app.domain.redrive import Verdict
from app.observability.health import json_response
from app.redrive.edit import make_edit
from app.redrive.judge import judge, policy_of
from app.topics import dead_letter_topic
from web.actor import actor_of
from web.api.bodies import decode, read_json
from web.api.filters import choice, choice_of, flag_of, text_of
from web.api.letters import (
    OFFSET_MAX,
    PARTITION_MAX,
    DiscardIn,
    DryRunOut,
    EditIn,
    GroupsOut,
    JobOut,
    JobsOut,
    LetterOut,
    LettersOut,
    RangeIn,
    ReplayAllIn,
    ReplayIn,
    TopicOut,
    TopicsOut,
    group_out,
    job_out,
    letter_out,
    said_out,
    topic_out,
)
from web.api.paging import cursor_of, next_cursor
from web.context import CONTEXT
from web.edge import REQUEST_ID
from web.problems import Problem, invalid, not_found
from web.routes import OPERATOR, Param, Route

if TYPE_CHECKING:
    from app.db.engine import Transaction
    from app.settings import Settings

LISTED_DEFAULT: Final = 20
NAMED_MAX: Final = 5
STATUSES: Final = tuple(status.lower() for status in deadletters.STATUSES)

_REPLAY: Final = msgspec.json.Decoder(ReplayIn)
_RANGE: Final = msgspec.json.Decoder(RangeIn)
_ALL: Final = msgspec.json.Decoder(ReplayAllIn)
_DISCARD: Final = msgspec.json.Decoder(DiscardIn)
_EDIT: Final = msgspec.json.Decoder(EditIn)


async def topics(request: web.Request) -> web.Response:
    """GET /api/dlq/topics: how many letters of each dead-letter topic are open, sent back, ..."""
    counts = await deadletters.counts(request.app[CONTEXT].db)
    names = sorted({one.topic for one in counts})
    listed = [topic_out(name, [one for one in counts if one.topic == name]) for name in names]
    return json_response(TopicsOut(listed, sum(one.open for one in listed)))


async def count(request: web.Request) -> web.Response:
    """GET /api/dlq/{topic}/count: the same of one topic."""
    topic = topic_of(request)
    return json_response(topic_out(topic, await deadletters.counts(request.app[CONTEXT].db, topic)))


async def groups(request: web.Request) -> web.Response:
    """GET /api/dlq/groups?topic=&limit=: letters by cause, most open ones first.

    Ids, numbers and times in an error's message do not split a group.
    """
    context = request.app[CONTEXT]
    limit = number_of(request, "limit", 1, context.settings.dlq_list_max, LISTED_DEFAULT)
    given = text_of(request, "topic", 200)
    topic = known_topic(given) if given else ""
    found = await deadletters.groups(context.db, limit + 1, topic)
    return json_response(GroupsOut([group_out(one) for one in found[:limit]], len(found) > limit))


async def peek(request: web.Request) -> web.Response:
    """GET /api/dlq/{topic}/peek?n=&after=&status=&fingerprint=: letters, newest first.

    JSON is shown as JSON, other text as text, anything else as a hex dump; sizes are bounded.
    """
    context = request.app[CONTEXT]
    topic = topic_of(request)
    limit = number_of(request, "n", 1, context.settings.dlq_list_max, LISTED_DEFAULT)
    status = choice_of(request, "status", STATUSES).upper()
    fingerprint = text_of(request, "fingerprint", 16)
    place = place_of(request)
    found = await deadletters.peek(
        context.db, topic, limit, status=status, fingerprint=fingerprint, after=place
    )
    last = found[-1] if len(found) == limit else None
    shown_max = context.settings.dlq_shown_max_bytes
    following = None if last is None else next_cursor(Cursor(last.at, last.id))
    return json_response(LettersOut([letter_out(one, shown_max) for one in found], following))


async def letter(request: web.Request) -> web.Response:
    """GET /api/dlq/letters/{id}: one letter, and what sending it back would do now."""
    context = request.app[CONTEXT]
    found = await deadletters.get(context.db, id_of(request, "dead letter"))
    if found is None:
        raise not_found("dead letter")
    verdict = None
    if found.status == "OPEN":
        async with context.db.transaction() as tx:
            policy = policy_of(context.settings)
            ((_, verdict, _),) = await judge(tx, [found], context.clock.now(), policy)
    return json_response(letter_out(found, context.settings.dlq_shown_max_bytes, verdict))


async def replay(request: web.Request) -> web.Response:
    """POST /api/dlq/{topic}/replay: send back these letters, one group, or all that is open.

    202 with the job; with `dryRun` 200 with a verdict on each letter and nothing changed.
    """
    topic = topic_of(request)
    body = await optional(request, _REPLAY, ReplayIn())
    if body.ids is not None and body.fingerprint is not None:
        raise invalid("give ids or a fingerprint, not both", "$.ids")
    work = Work(ids=_distinct(body.ids), topic=topic, fingerprint=body.fingerprint or "")
    return await _replay(request, work, body)


async def replay_range(request: web.Request) -> web.Response:
    """POST /api/dlq/{topic}/replay-range: send back what is open between two offsets, inclusive.

    Offsets are those of the dead-letter topic; all partitions unless one is named. They may also
    be given in the query, as older clients do.
    """
    topic = topic_of(request)
    body = decode(_RANGE, await read_json(request)) if request.body_exists else _queried(request)
    if body.from_offset > body.to_offset:
        raise invalid("must not be after toOffset", "$.fromOffset")
    work = Work(
        topic=topic,
        partition=body.partition,
        from_offset=body.from_offset,
        to_offset=body.to_offset,
    )
    return await _replay(request, work, body)


async def replay_all(request: web.Request) -> web.Response:
    """POST /api/dlq/replay-all: send back what is open of every topic, or of one group."""
    body = await optional(request, _ALL, ReplayAllIn())
    return await _replay(request, Work(fingerprint=body.fingerprint or ""), body)


async def edit(request: web.Request) -> web.Response:
    """POST /api/dlq/letters/{id}/edit: publish another content in the letter's place.

    It is a new message caused by the letter, for the consumer that failed. A command of a saga must
    say what its saga waits for, and goes out under the command's own id.
    """
    context = request.app[CONTEXT]
    letter_id = id_of(request, "dead letter")
    asked = _asked(request, "")
    body = decode(_EDIT, await read_json(request))
    value = msgspec.json.encode(body.payload)
    now = context.clock.now()
    async with context.db.transaction() as tx:
        found = await deadletters.open_letters(tx, deadletters.Selection(ids=(letter_id,)), 1)
        if not found:
            known = await deadletters.of_ids(tx, [letter_id])
            if letter_id not in known:
                raise not_found("dead letter")
            raise _not_open({letter_id: known[letter_id][1]})
        source = f"{context.settings.namespace}/dlq"
        made = await make_edit(tx, found[0], value, source, now, policy_of(context.settings))
        if isinstance(made, Verdict):
            raise _refused_edit(made)
        work = Work(ids=(letter_id,), topic=found[0].topic, value=value.decode())
        job_id = str(uuid4())
        detail = {"event_id": dict(made.headers)["ce_id"].decode(), "letter": letter_id}
        jobs.create(tx, job_id, "edit", work, asked._replace(reason=body.reason), total=1,
                    rate_per_s=context.settings.dlq_rate_per_s, now=now, detail=detail)  # fmt: skip
    return await _answer(request, job_id)


async def discard(request: web.Request) -> web.Response:
    """POST /api/dlq/{topic}/discard: put letters away for a reason; they stay to be read."""
    context = request.app[CONTEXT]
    topic = topic_of(request)
    body = decode(_DISCARD, await read_json(request))
    if not body.reason.strip():
        raise invalid("a reason is needed", "$.reason")
    if body.ids is not None and body.fingerprint is not None:
        raise invalid("give ids or a fingerprint, not both", "$.ids")
    work = Work(ids=_distinct(body.ids), topic=topic, fingerprint=body.fingerprint or "")
    asked = _asked(request, body.reason)
    async with context.db.transaction() as tx:
        total = await _open_of(tx, work)
        job_id = str(uuid4())
        jobs.create(tx, job_id, "discard", work, asked, total=total,
                    rate_per_s=context.settings.dlq_rate_max_per_s,
                    now=context.clock.now())  # fmt: skip
    return await _answer(request, job_id)


async def purge(request: web.Request) -> web.Response:
    """DELETE /api/dlq/{topic}: delete the records of the dead-letter topic for good.

    Everything that is indexed now, of all partitions; what comes later stays. Refused while open
    letters belong to orders that are under way, unless `force`.
    """
    context = request.app[CONTEXT]
    topic = topic_of(request)
    force = flag_of(request, "force")
    asked = _asked(request, text_of(request, "reason", 200))
    async with context.db.transaction() as tx:
        span = await deadletters.span(tx, topic)
        if not span:
            raise Problem(404, "nothing_indexed", f"There is nothing on {topic} to purge.")
        work = Work(
            topic=topic,
            ends={partition: last + 1 for partition, (_, last) in span.items()},
            force=force,
        )
        if not force and (needed := await deadletters.protected(tx, topic, work.ends)):
            raise Problem(
                409,
                "needed_by_sagas",
                f"{needed} open letters of {topic} belong to orders that are under way: redrive or"
                " discard them first, or purge with force=true.",
                letters=needed,
            )
        total = (await deadletters.matching(tx, work.selection)).get("OPEN", 0)
        job_id = str(uuid4())
        jobs.create(tx, job_id, "purge", work, asked, total=total,
                    rate_per_s=context.settings.dlq_rate_max_per_s,
                    now=context.clock.now())  # fmt: skip
    return await _answer(request, job_id)


async def recent_jobs(request: web.Request) -> web.Response:
    """GET /api/dlq/jobs?limit=&after=: jobs, newest first."""
    context = request.app[CONTEXT]
    limit = number_of(request, "limit", 1, context.settings.dlq_list_max, LISTED_DEFAULT)
    place = place_of(request)
    found = await jobs.recent(context.db, limit, jobs.Place(*place) if place else None)
    last = found[-1] if len(found) == limit else None
    following = None if last is None else next_cursor(Cursor(last.created_at, last.id))
    return json_response(JobsOut([job_out(one) for one in found], following))


async def job(request: web.Request) -> web.Response:
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
    asked = _asked(request, "")
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
    return await _answer(request, job_id)


def topic_of(request: web.Request) -> str:
    """Return the dead-letter topic that the path names, in whatever spelling; Problem 404."""
    return known_topic(request.match_info["topic"])


def known_topic(name: str) -> str:
    """Return the dead-letter topic that `name` means; raises Problem 404 for an unknown one."""
    found = dead_letter_topic(name)
    if found is None:
        shown = name[:100] if name.isprintable() else "that name"
        raise Problem(
            404,
            "unknown_topic",
            f"There is no dead-letter topic {shown}; they are called as payment.requested.dlt.",
        )
    return found


def id_of(request: web.Request, what: str) -> str:
    """Return the id in the path; raises Problem 404 when it cannot be one."""
    found = request.match_info["id"].lower()
    if not identity.is_uuid(found):
        raise not_found(what)
    return found


def number_of(
    request: web.Request, name: str, least: int, most: int, default: int | None = None
) -> int:
    """Return a whole number of the query; raises Problem 400 for anything else."""
    text = request.query.get(name)
    if text is None and default is not None:
        return min(default, most)
    plain = text is not None and text.isascii() and text.isdigit() and len(text) <= 19
    if not plain or not least <= int(text or "") <= most:
        raise Problem(400, "bad_parameter", f"{name} must be a number from {least} to {most}.")
    return int(text or "")


def place_of(request: web.Request) -> Place | None:
    """Return the place that `after` names, None when absent; raises Problem 400."""
    text = request.query.get("after", "")
    if not text:
        return None
    try:
        return Place(*cursor_of(text))
    except Problem:
        raise Problem(400, "bad_parameter", "after must be `next` of an earlier answer.") from None


async def optional(request: web.Request, decoder: Any, default: Any) -> Any:
    """Return the decoded body, `default` when there is none."""
    return decode(decoder, await read_json(request)) if request.body_exists else default


def _queried(request: web.Request) -> RangeIn:
    partition = None
    if "partition" in request.query:
        partition = number_of(request, "partition", 0, PARTITION_MAX)
    return RangeIn(
        from_offset=number_of(request, "fromOffset", 0, OFFSET_MAX),
        to_offset=number_of(request, "toOffset", 0, OFFSET_MAX),
        partition=partition,
    )


async def _replay(
    request: web.Request, work: Work, body: ReplayIn | RangeIn | ReplayAllIn
) -> web.Response:
    context = request.app[CONTEXT]
    asked = _asked(request, body.reason)
    rate_per_s = _rate(body.rate_per_s, context.settings)
    now = context.clock.now()
    async with context.db.transaction() as tx:
        total = await _open_of(tx, work)
        if body.dry_run:
            return json_response(await _dry_run(tx, work, total, now, context.settings))
        job_id = str(uuid4())
        jobs.create(tx, job_id, "redrive", work, asked, total=total, rate_per_s=rate_per_s, now=now)
    return await _answer(request, job_id)


async def _dry_run(
    tx: Transaction, work: Work, total: int, now: datetime, settings: Settings
) -> DryRunOut:
    letters = await deadletters.open_letters(tx, work.selection, settings.dlq_dry_run_max)
    judged = await judge(tx, letters, now, policy_of(settings))
    tally: dict[str, int] = {}
    for one in judged:
        tally[one.verdict.answer] = tally.get(one.verdict.answer, 0) + 1
    said = [said_out(one.letter, one.verdict) for one in judged]
    return DryRunOut(max(total, len(said)), len(said), tally, said)


async def _open_of(tx: Transaction, work: Work) -> int:
    """How many open letters are meant; raises Problem 404 when none is meant, 409 when one that was
    named, or all, are not open."""
    if work.ids is not None:
        return await _open_of_ids(tx, work.ids, work.topic)
    found = await deadletters.matching(tx, work.selection)
    if not found:
        raise Problem(404, "no_such_letters", await _nothing_there(tx, work))
    if not found.get("OPEN"):
        states = ", ".join(f"{number} {status}" for status, number in sorted(found.items()))
        raise Problem(409, "nothing_open", f"None of these letters is open: {states}.")
    return found["OPEN"]


async def _open_of_ids(tx: Transaction, letter_ids: Sequence[str], topic: str) -> int:
    known = await deadletters.of_ids(tx, letter_ids)
    unknown = [one for one in letter_ids if one not in known or known[one][0] != topic]
    if unknown:
        raise Problem(
            404, "no_such_letters", f"{topic} has no dead letter {_named(unknown)}.", ids=unknown
        )
    closed = {one: known[one][1] for one in letter_ids if known[one][1] != "OPEN"}
    if closed:
        raise _not_open(closed)
    return len(letter_ids)


async def _nothing_there(tx: Transaction, work: Work) -> str:
    if work.fingerprint:
        return f"There is no dead letter of the group {work.fingerprint}."
    if not work.topic:
        return "There are no dead letters."
    span = await deadletters.span(tx, work.topic)
    if not span:
        return f"There are no dead letters of {work.topic}."
    have = ", ".join(f"partition {one}: {low} to {high}" for one, (low, high) in span.items())
    return f"There is no dead letter of {work.topic} there; known offsets: {have}."


def _not_open(closed: dict[str, str]) -> Problem:
    states = ", ".join(sorted(set(closed.values())))
    return Problem(
        409, "not_open", f"Not open any more ({states}): {_named(list(closed))}.", ids=list(closed)
    )


def _refused_edit(verdict: Verdict) -> Problem:
    if verdict.reason.startswith("unreadable"):
        return invalid(f"it is no message of this topic: {verdict.reason}", "$.payload")
    detail = f"Refused: {verdict.reason}. A saga's command is sent again by retrying its step."
    return Problem(409, "not_what_its_saga_waits_for", detail)


def _named(letter_ids: Sequence[str]) -> str:
    more = f" and {len(letter_ids) - NAMED_MAX} more" if len(letter_ids) > NAMED_MAX else ""
    return ", ".join(letter_ids[:NAMED_MAX]) + more


def _distinct(letter_ids: list[str] | None) -> tuple[str, ...] | None:
    return None if letter_ids is None else tuple(dict.fromkeys(letter_ids))


def _rate(asked: int | None, settings: Settings) -> int:
    if asked is None:
        return settings.dlq_rate_per_s
    if asked > settings.dlq_rate_max_per_s:
        raise invalid(f"must not exceed {settings.dlq_rate_max_per_s}", "$.ratePerS")
    return asked


def _asked(request: web.Request, reason: str) -> jobs.Request:
    return jobs.Request(actor_of(request), reason, request[REQUEST_ID])


async def _answer(request: web.Request, job_id: str) -> web.Response:
    found = await jobs.get(request.app[CONTEXT].db, job_id)
    if found is None:
        raise not_found("job")
    answer = json_response(job_out(found), status=202)
    answer.headers["Location"] = f"/api/dlq/jobs/{job_id}"
    return answer


_TOPIC = Param(
    "topic",
    Annotated[str, Meta(max_length=200, examples=["payment.requested.dlt"])],
    "a dead-letter topic; older spellings are understood",
)
_LETTER = Param("id", Annotated[str, Meta(extra_json_schema={"format": "uuid"})], "the letter's id")
_JOB = Param("id", Annotated[str, Meta(extra_json_schema={"format": "uuid"})], "the job's id")
_HOW_MANY = Annotated[int, Meta(ge=1, le=100)]
_LIMIT = Param("limit", _HOW_MANY, "how many; the setting dlq_list_max is the most")
_AFTER = Param("after", str, "`next` of an earlier answer")
_OFFSET = Annotated[int, Meta(ge=0, le=OFFSET_MAX)]
_FINGERPRINT = Param(
    "fingerprint", Annotated[str, Meta(min_length=1, max_length=16)], "only of this group"
)
_LOCATION = (Param("Location", str, "where the job is followed"),)
_CHANGE = (400, 409, 413, 415, 422)
_RANGE_QUERY = (
    Param("fromOffset", _OFFSET, "the first offset, without a body"),
    Param("toOffset", _OFFSET, "the last offset, without a body"),
    Param("partition", Annotated[int, Meta(ge=0, le=PARTITION_MAX)], "only there, without a body"),
)
_PEEKED = (
    _TOPIC,
    Param("n", _HOW_MANY, "how many; the setting dlq_list_max is the most"),
    _AFTER,
    choice("status", STATUSES, "only letters in this state"),
    _FINGERPRINT,
)
_PURGED = (
    _TOPIC,
    Param("force", bool, "delete open letters of orders that are under way as well"),
    Param("reason", Annotated[str, Meta(min_length=1, max_length=200)], "for the audit log"),
)

ROUTES: Final = (
    Route("GET", "/api/dlq/topics", topics, "Count dead letters by topic", TopicsOut, tag="dlq"),
    Route(
        "GET", "/api/dlq/groups", groups, "Group dead letters by cause", GroupsOut,
        params=(Param("topic", Annotated[str, Meta(min_length=1, max_length=200)], "only there"),
                _LIMIT),
        problems=(400,), tag="dlq",
    ),
    Route(
        "GET", "/api/dlq/jobs", recent_jobs, "List jobs on dead letters", JobsOut,
        params=(_LIMIT, _AFTER), problems=(400,), tag="dlq",
    ),
    Route("GET", "/api/dlq/jobs/{id}", job, "Follow a job", JobOut, params=(_JOB,), tag="dlq"),
    Route(
        "POST", "/api/dlq/jobs/{id}/cancel", cancel, "Stop a job", JobOut, status=202,
        params=(_JOB,), problems=(400, 409), headers=(OPERATOR,), reply_headers=_LOCATION,
        tag="dlq",
    ),
    Route(
        "GET", "/api/dlq/letters/{id}", letter, "Read a dead letter", LetterOut, params=(_LETTER,),
        tag="dlq",
    ),
    Route(
        "POST", "/api/dlq/letters/{id}/edit", edit, "Replace a dead letter by another message",
        JobOut, EditIn, status=202, params=(_LETTER,), problems=_CHANGE, headers=(OPERATOR,),
        reply_headers=_LOCATION, tag="dlq",
    ),
    Route(
        "POST", "/api/dlq/replay-all", replay_all, "Send back all dead letters", JobOut,
        ReplayAllIn, status=202, problems=(404, *_CHANGE), headers=(OPERATOR,),
        reply_headers=_LOCATION, also=((200, DryRunOut),), body_required=False, tag="dlq",
    ),
    Route(
        "GET", "/api/dlq/{topic}/count", count, "Count dead letters of a topic", TopicOut,
        params=(_TOPIC,), tag="dlq",
    ),
    Route(
        "GET", "/api/dlq/{topic}/peek", peek, "List dead letters of a topic", LettersOut,
        params=_PEEKED, problems=(400,), tag="dlq",
    ),
    Route(
        "POST", "/api/dlq/{topic}/replay", replay, "Send back dead letters of a topic", JobOut,
        ReplayIn, status=202, params=(_TOPIC,), problems=_CHANGE, headers=(OPERATOR,),
        reply_headers=_LOCATION, also=((200, DryRunOut),), body_required=False, tag="dlq",
    ),
    Route(
        "POST", "/api/dlq/{topic}/replay-range", replay_range, "Send back a range of offsets",
        JobOut, RangeIn, status=202, params=(_TOPIC, *_RANGE_QUERY), problems=_CHANGE,
        headers=(OPERATOR,), reply_headers=_LOCATION, also=((200, DryRunOut),),
        body_required=False, tag="dlq",
    ),
    Route(
        "POST", "/api/dlq/{topic}/discard", discard, "Put dead letters away", JobOut, DiscardIn,
        status=202, params=(_TOPIC,), problems=_CHANGE, headers=(OPERATOR,),
        reply_headers=_LOCATION, tag="dlq",
    ),
    Route(
        "DELETE", "/api/dlq/{topic}", purge, "Delete the records of a dead-letter topic", JobOut,
        status=202, params=_PURGED, problems=(400, 409), headers=(OPERATOR,),
        reply_headers=_LOCATION, tag="dlq",
    ),
)  # fmt: skip
