"""Asking for jobs on dead letters: replay, edit, discard, purge.

What is asked for is checked, recorded and queued in one transaction and answered with 202; role dlq
does it. Nothing is half-applied: one unknown letter refuses the whole request.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import msgspec
from aiohttp import web

from app.db import dead_letter_jobs as jobs
from app.db import dead_letter_selection as selection
from app.db.dead_letter_jobs import Work
from app.domain.redrive import Verdict
from app.observability.health import json_response
from app.redrive.edit import make_edit
from app.redrive.judge import judge, policy_of
from web.api.bodies import decode, read_json
from web.api.dlq.jobs import accepted, asked_of
from web.api.dlq.requests import id_of, number_of, optional, topic_of
from web.api.filters import flag_of, text_of
from web.api.letters import (
    OFFSET_MAX,
    PARTITION_MAX,
    DiscardIn,
    DryRunOut,
    EditIn,
    RangeIn,
    ReplayAllIn,
    ReplayIn,
    said_out,
)
from web.context import CONTEXT
from web.problems import Problem, invalid, not_found

if TYPE_CHECKING:
    from app.db.engine import Transaction
    from app.settings import Settings

NAMED_MAX: Final = 5
"""Ids of letters that the detail of a problem names."""

_REPLAY: Final = msgspec.json.Decoder(ReplayIn)
_RANGE: Final = msgspec.json.Decoder(RangeIn)
_ALL: Final = msgspec.json.Decoder(ReplayAllIn)
_DISCARD: Final = msgspec.json.Decoder(DiscardIn)
_EDIT: Final = msgspec.json.Decoder(EditIn)


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
    asked = asked_of(request)
    body = decode(_EDIT, await read_json(request))
    value = msgspec.json.encode(body.payload)
    now = context.clock.now()
    async with context.db.transaction() as tx:
        found = await selection.open_letters(tx, selection.Selection(ids=(letter_id,)), 1)
        if not found:
            known = await selection.of_ids(tx, [letter_id])
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
    return await accepted(request, job_id)


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
    asked = asked_of(request, body.reason)
    async with context.db.transaction() as tx:
        total = await _open_of(tx, work)
        job_id = str(uuid4())
        jobs.create(tx, job_id, "discard", work, asked, total=total,
                    rate_per_s=context.settings.dlq_rate_max_per_s,
                    now=context.clock.now())  # fmt: skip
    return await accepted(request, job_id)


async def purge(request: web.Request) -> web.Response:
    """DELETE /api/dlq/{topic}: delete the records of the dead-letter topic for good.

    Everything that is indexed now, of all partitions; what comes later stays. Refused while open
    letters belong to orders that are under way, unless `force`.
    """
    context = request.app[CONTEXT]
    topic = topic_of(request)
    force = flag_of(request, "force")
    asked = asked_of(request, text_of(request, "reason", 200))
    async with context.db.transaction() as tx:
        span = await selection.span(tx, topic)
        if not span:
            raise Problem(404, "nothing_indexed", f"There is nothing on {topic} to purge.")
        work = Work(
            topic=topic,
            ends={partition: last + 1 for partition, (_, last) in span.items()},
            force=force,
        )
        if not force and (needed := await selection.protected(tx, topic, work.ends)):
            raise Problem(
                409,
                "needed_by_sagas",
                f"{needed} open letters of {topic} belong to orders that are under way: redrive or"
                " discard them first, or purge with force=true.",
                letters=needed,
            )
        total = (await selection.matching(tx, work.selection)).get("OPEN", 0)
        job_id = str(uuid4())
        jobs.create(tx, job_id, "purge", work, asked, total=total,
                    rate_per_s=context.settings.dlq_rate_max_per_s,
                    now=context.clock.now())  # fmt: skip
    return await accepted(request, job_id)


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
    asked = asked_of(request, body.reason)
    rate_per_s = _rate(body.rate_per_s, context.settings)
    now = context.clock.now()
    async with context.db.transaction() as tx:
        total = await _open_of(tx, work)
        if body.dry_run:
            return json_response(await _dry_run(tx, work, total, now, context.settings))
        job_id = str(uuid4())
        jobs.create(tx, job_id, "redrive", work, asked, total=total, rate_per_s=rate_per_s, now=now)
    return await accepted(request, job_id)


async def _dry_run(
    tx: Transaction, work: Work, total: int, now: datetime, settings: Settings
) -> DryRunOut:
    letters = await selection.open_letters(tx, work.selection, settings.dlq_dry_run_max)
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
    found = await selection.matching(tx, work.selection)
    if not found:
        raise Problem(404, "no_such_letters", await _nothing_there(tx, work))
    if not found.get("OPEN"):
        states = ", ".join(f"{number} {status}" for status, number in sorted(found.items()))
        raise Problem(409, "nothing_open", f"None of these letters is open: {states}.")
    return found["OPEN"]


async def _open_of_ids(tx: Transaction, letter_ids: Sequence[str], topic: str) -> int:
    known = await selection.of_ids(tx, letter_ids)
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
    span = await selection.span(tx, work.topic)
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
