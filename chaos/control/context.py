"""What the views of chaos rules share: the agent, the way to change rules, reading bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec
from aiohttp import web

from chaos.control.changes import Act, Changes
from web.actor import actor_of
from web.api.bodies import decode, read_json
from web.edge import REQUEST_ID
from web.problems import unavailable

if TYPE_CHECKING:
    from chaos.control.agent import Agent
    from chaos.control.rule import Rule

AGENT: web.AppKey[Agent] = web.AppKey("chaos_agent")
CHANGES: web.AppKey[Changes] = web.AppKey("chaos_changes", Changes)

Body = TypeVar("Body", bound=msgspec.Struct)


def act_of(request: web.Request, action: str, reason: str) -> Act:
    """Return who asks, for the audit log; raises Problem 400."""
    return Act(actor_of(request), action, reason, request[REQUEST_ID])


async def read_all(request: web.Request) -> dict[str, Rule]:
    """Return every rule that has not ended; raises Problem 503 while none could be read yet."""
    agent = request.app[AGENT]
    if not agent.board.caught_up.is_set():
        raise unavailable("rules_unread", "The rules could not be read yet: is Kafka there?")
    return agent.rules.known()


async def read_optional(
    request: web.Request, decoder: msgspec.json.Decoder[Body], absent: Body
) -> Body:
    """Return the request's JSON, `absent` when it has none; raises Problem 400, 415 or 422."""
    if not request.body_exists:
        return absent
    return decode(decoder, await read_json(request))
