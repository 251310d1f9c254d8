"""The API of chaos rules, added to the web role of a lab: /api/chaos/...

A change is answered when every worker that it is for has said that it has it, or after a bounded
wait with 202, `enabled: false` and the names of those that have not. Without Kafka nothing can be
changed (503), but the kill switch ends every rule.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from app.db import chaos_switch
from app.observability.health import json_response
from app.topics import MESSAGE_TOPICS
from chaos.control import cloudcart
from chaos.control.bodies import (
    Changed,
    InForceOut,
    KillIn,
    KindOut,
    KindsOut,
    RuleIn,
    RuleOut,
    RulesOut,
    RuleStatus,
    StatusOut,
    SwitchOut,
    TopicRuleIn,
    TopicRuleOut,
    WorkerStatus,
    rule_out,
)
from chaos.control.changes import Change, Changes
from chaos.control.check import Known
from chaos.control.context import AGENT, CHANGES, act_of, read_all, read_optional
from chaos.control.topic_rules import ids_of, rules_of, short_forms
from chaos.faults.kinds import KINDS, UNSAFE_TO_LOSE
from web.api.bodies import decode, read_json
from web.context import CONTEXT
from web.problems import Problem, invalid, not_found
from web.routes import OPERATOR, ROUTES, OneOf, Param, Route, add_routes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from app.control.acks import Ack
    from app.delivery import App
    from chaos.control.agent import Agent
    from chaos.control.rule import Rule

TOPICS_MAX: Final = 50
LISTEN_S: Final = 1.5

_RULE: Final = msgspec.json.Decoder(RuleIn)
_SHORT: Final = msgspec.json.Decoder(TopicRuleIn)
_SHORTS: Final = msgspec.json.Decoder(dict[str, TopicRuleIn])
_KILL: Final = msgspec.json.Decoder(KillIn)


async def make(request: web.Request) -> web.Response:
    """POST /api/chaos/rules: make one rule, or replace all by {topic: short form}."""
    raw = await read_json(request)
    if _names_a_fault(raw):
        wanted = decode(_RULE, raw)
        return await _changed(request, Change((wanted,)), "chaos.rule.make", wanted.reason, 201)
    shorts = decode(_SHORTS, raw)
    if not 0 < len(shorts) <= TOPICS_MAX:
        raise invalid(f"a rule (with `fault`), or 1 to {TOPICS_MAX} topics with their short forms")
    put = [rule for topic, short in shorts.items() for rule in rules_of(topic, short)]
    gone = await _ids(request)
    return await _changed(request, Change(put, gone), "chaos.rules.replace", "", 201)


async def put(request: web.Request) -> web.Response:
    """PUT /api/chaos/rules/{rule}: make or replace a rule by its id, or a topic's short form."""
    name, raw = request.match_info["rule"], await read_json(request)
    if _names_a_fault(raw):
        wanted = decode(_RULE, raw)
        if wanted.id not in (None, name):
            raise invalid(f"the rule's id is {wanted.id!r}, the path's {name!r}", "$.id")
        try:
            wanted = msgspec.convert(msgspec.structs.replace(wanted, id=name), RuleIn)
        except msgspec.ValidationError as error:
            raise invalid(str(error), "$.id") from None
        _check_id(name)
        return await _changed(request, Change((wanted,)), "chaos.rule.put", wanted.reason, 200)
    if name not in MESSAGE_TOPICS:
        raise invalid(f"{name!r} is no topic, so a rule needs a `fault`", "$.fault")
    short = decode(_SHORT, raw)
    change = Change(rules_of(name, short), ids_of(name))
    return await _changed(request, change, "chaos.topic.put", short.reason, 200)


async def listed(request: web.Request) -> web.Response:
    """GET /api/chaos/rules: every rule that has not ended, for whichever workers."""
    rules = list((await read_all(request)).values())
    return json_response(RulesOut([rule_out(rule) for rule in rules], short_forms(rules)))


async def show(request: web.Request) -> web.Response:
    """GET /api/chaos/rules/{rule}: a rule by its id, or what rules come to for a topic."""
    name = request.match_info["rule"]
    rules = await read_all(request)
    if name in rules:
        return json_response(rule_out(rules[name]))
    short = short_forms(rules.values()).get(name)
    if short is None and name not in MESSAGE_TOPICS:
        raise not_found("rule")
    return json_response(short or TopicRuleOut())


async def delete(request: web.Request) -> web.Response:
    """DELETE /api/chaos/rules/{rule}: end a rule by its id, or all that are about a topic."""
    name = request.match_info["rule"]
    rules = await read_all(request)
    gone = {name} if name in rules else {i for i, r in rules.items() if r.scope.topic == name}
    if not gone:
        raise not_found("rule")
    return await _changed(request, Change((), gone), "chaos.rule.delete", _why(request), 200)


async def delete_all(request: web.Request) -> web.Response:
    """DELETE /api/chaos/rules: end every rule, one by one; the kill switch is quicker."""
    gone = await _ids(request)
    return await _changed(request, Change((), gone), "chaos.rules.delete", _why(request), 200)


async def kill(request: web.Request) -> web.Response:
    """POST /api/chaos/kill: end every rule now; works without Kafka.

    Every worker looks at the switch twice a second and drops what was made before it was thrown.
    """
    body = await read_optional(request, _KILL, KillIn())
    act = act_of(request, "chaos.kill", body.reason)
    return json_response(_switch_out(await request.app[CHANGES].kill(act)))


async def status(request: web.Request) -> web.Response:
    """GET /api/chaos/status: the switch, each rule, and which worker has it in force."""
    context, agent, changes = request.app[CONTEXT], request.app[AGENT], request.app[CHANGES]
    await changes.publisher.listen(LISTEN_S)
    live = await changes.workers()
    switch = await changes.switch()
    heard = changes.publisher.heard()
    now = context.clock.now()
    rules = [rule for rule in agent.rules.known().values() if rule.epoch >= switch.epoch]
    return json_response(
        StatusOut(
            switch=_switch_out(switch),
            kafka=context.settings.worker_id in heard,
            version=agent.board.version,
            rules=[
                rule_status(rule, changes.meant(rule, live), heard, now.timestamp())
                for rule in rules
            ],
            workers=[
                WorkerStatus(one.worker_id, one.role, ack.version, ack.at)
                if (ack := heard.get(one.worker_id)) is not None
                else WorkerStatus(one.worker_id, one.role, None, None)
                for one in live
            ],
        )
    )


async def kinds(request: web.Request) -> web.Response:
    """GET /api/chaos/kinds: every fault kind with its parameters."""
    del request
    return json_response(
        KindsOut(
            [
                KindOut(
                    name=kind.name,
                    meaning=kind.meaning,
                    params=msgspec.json.schema(kind.params),
                    scope=sorted({"roles", "workers", *kind.scope}),
                    roles=sorted(kind.roles),
                    conflicts=sorted(kind.conflicts),
                    loses=kind.loses,
                )
                for kind in KINDS.values()
            ]
        )
    )


def rule_status(
    rule: Rule, meant: Iterable[str], heard: Mapping[str, Ack], now_s: float
) -> RuleStatus:
    """Return how a rule stands with the workers that it is meant for."""
    rows, refused = [], {}
    for worker in meant:
        ack = heard.get(worker)
        note = ack.note.get(rule.id, {}) if ack is not None else {}
        same = note.get("version") == rule.version
        rows.append(
            InForceOut(
                worker=worker,
                in_force=same,
                seen=int(note.get("seen", 0)) if same else 0,
                struck=int(note.get("struck", 0)) if same else 0,
            )
        )
        if ack is not None and rule.id in ack.refused:
            refused[worker] = ack.refused[rule.id]
    return RuleStatus(
        rule=rule_out(rule),
        enabled=bool(rows) and all(row.in_force for row in rows),
        expires_in_s=round(max(0.0, rule.expires_at.timestamp() - now_s), 3),
        hits=sum(row.struck for row in rows),
        workers=rows,
        refused=refused,
    )


def _switch_out(switch: chaos_switch.Switch) -> SwitchOut:
    return SwitchOut(switch.epoch, switch.thrown_by, switch.reason, switch.thrown_at)


def _names_a_fault(raw: bytes) -> bool:
    """Whether a body is a rule and not a short form."""
    try:
        members = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return "fault" in members


def _check_id(name: str) -> None:
    try:
        msgspec.convert({"fault": "x", "id": name}, RuleIn)
    except msgspec.ValidationError:
        raise invalid("an id is 1-80 of A-Z a-z 0-9 . _ : -", "$.id") from None


def _why(request: web.Request) -> str:
    reason = request.query.get("reason", "")
    if len(reason) > 200 or not reason.isprintable():
        raise Problem(400, "bad_parameter", "reason must be at most 200 printable characters.")
    return reason


async def _ids(request: web.Request) -> set[str]:
    return set(await read_all(request))


async def _changed(
    request: web.Request, change: Change, action: str, reason: str, status: int
) -> web.Response:
    """Do a change; 202 when not everybody said so in time."""
    done = await request.app[CHANGES].apply(change, act_of(request, action, reason))
    return json_response(done, status=status if done.enabled else 202)


_RULE_PARAM: Final = Param(
    "rule", Annotated[str, Meta(examples=["payment.result"])], "a rule's id, or a topic", True
)
_REASON: Final = Param("reason", Annotated[str, Meta(max_length=200)], "why, for the audit log")
_EXAMPLE: Final = {
    "fault": "delay",
    "scope": {"topic": "payment.requested"},
    "p": 0.3,
    "params": {"min_ms": 100, "max_ms": 1200},
    "ttlS": 60,
    "reason": "rehearsal",
}
_SHORT_EXAMPLE: Final = {"payment.result": {"pDrop": 0.1, "pDup": 0.2, "maxDelayMs": 1200}}
_REPEATED: Final = ((202, Changed),)


def _route(method: str, path: str, handler: Any, summary: str, reply: Any, **more: Any) -> Route:
    if method != "GET":
        more.setdefault("headers", (OPERATOR,))
    return Route(method, path, handler, summary, reply, tag="chaos", **more)


RULE_ROUTES: Final = (
    _route("GET", "/api/chaos/rules", listed, "List chaos rules", RulesOut),
    _route(
        "POST",
        "/api/chaos/rules",
        make,
        "Make a chaos rule",
        Changed,
        body=OneOf((RuleIn, dict[str, TopicRuleIn])),
        status=201,
        also=_REPEATED,
        problems=(400, 409, 413, 415, 422),
        examples=(("rule", _EXAMPLE), ("topics", _SHORT_EXAMPLE)),
    ),
    _route(
        "DELETE",
        "/api/chaos/rules",
        delete_all,
        "End all chaos rules",
        Changed,
        params=(_REASON,),
        also=_REPEATED,
        problems=(400,),
    ),
    _route(
        "GET",
        "/api/chaos/rules/{rule}",
        show,
        "Read a chaos rule, or a topic's",
        OneOf((RuleOut, TopicRuleOut)),
        params=(_RULE_PARAM,),
    ),
    _route(
        "PUT",
        "/api/chaos/rules/{rule}",
        put,
        "Set a chaos rule, or a topic's",
        Changed,
        params=(_RULE_PARAM,),
        body=OneOf((RuleIn, TopicRuleIn)),
        also=_REPEATED,
        problems=(400, 409, 413, 415, 422),
        examples=(("rule", _EXAMPLE), ("topic", _SHORT_EXAMPLE["payment.result"])),
    ),
    _route(
        "DELETE",
        "/api/chaos/rules/{rule}",
        delete,
        "End a chaos rule, or a topic's",
        Changed,
        params=(_RULE_PARAM, _REASON),
        also=_REPEATED,
        problems=(400, 404),
    ),
    _route("GET", "/api/chaos/status", status, "How chaos rules stand", StatusOut),
    _route("GET", "/api/chaos/kinds", kinds, "List fault kinds", KindsOut),
    _route(
        "POST",
        "/api/chaos/kill",
        kill,
        "Throw the kill switch",
        SwitchOut,
        body=KillIn,
        body_required=False,
        problems=(400, 413, 415, 422),
    ),
)


def install(app: App, agent: Agent) -> None:
    """Add the routes to the web role's application."""

    def extend(application: web.Application) -> None:
        context = application[CONTEXT]
        add_routes(application, (*RULE_ROUTES, *cloudcart.ROUTES))
        routes = frozenset(route.path for route in application[ROUTES])
        application[AGENT] = agent
        application[CHANGES] = Changes(context, agent, Known(KINDS, UNSAFE_TO_LOSE, routes))

        async def closing(_: web.Application) -> AsyncIterator[None]:
            yield
            await application[CHANGES].close()

        application.cleanup_ctx.append(closing)

    app.web_extensions.append(extend)
