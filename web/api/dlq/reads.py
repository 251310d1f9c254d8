"""Looking at dead letters: counts, groups, lists, and one letter with the verdict on it."""

from __future__ import annotations

from aiohttp import web

from app.db import deadletters
from app.db.cursor import Cursor
from app.observability.health import json_response
from app.redrive.judge import judge, policy_of
from web.api.dlq.requests import STATUSES, id_of, known_topic, limit_of, place_of, topic_of
from web.api.filters import choice_of, text_of
from web.api.letters import GroupsOut, LettersOut, TopicsOut, group_out, letter_out, topic_out
from web.api.paging import next_cursor
from web.context import CONTEXT
from web.problems import not_found


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
    limit = limit_of(request)
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
    limit = limit_of(request, "n")
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
