"""Chaos of the HTTP API in the shape of a chaos service: /chaos/config, inject, enable, test.

Each of these is answered by rules with the fault kinds http_latency, http_error and http_timeout,
so it strikes real requests of the API, in every web worker, and ends by its lease. Every route is
served below /chaos and below /api/chaos.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from app.observability.health import json_response
from chaos.control.bodies import Chance, Changed, Reason, RuleIn, Seconds
from chaos.control.changes import Change
from chaos.control.context import AGENT, CHANGES, act_of, read_all, read_optional
from chaos.control.dual_write import Provoked, lost_event, phantom_event
from chaos.control.in_force import CONFIG_PREFIX
from chaos.control.rule import Scope, draw
from chaos.faults.kind import HOLD_MAX_MS
from chaos.faults.on_http import check_status
from web.api.bodies import decode, read_json
from web.context import CONTEXT
from web.edge import REQUEST_ID
from web.problems import Problem
from web.routes import OPERATOR, Param, Route

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chaos.control.rule import Rule

KEY: Final = f"{CONFIG_PREFIX}http"
CONFIG_IDS: Final = ("http-latency", "http-error", "http-timeout")
INJECT_IDS: Final = ("inject-latency", "inject-error", "inject-timeout")
LEAK_S: Final = 30.0
SLOW_S: Final = (2.0, 4.0)

Status = Annotated[int, Meta(ge=400, le=599)]
Millis = Annotated[float, Meta(ge=0, le=HOLD_MAX_MS)]


def check_bounds(least: float, most: float) -> None:
    """Raise ValueError for a time that lies between no two bounds."""
    if least > most:
        raise ValueError(f"min {least:g} is above max {most:g}")


class Latency(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Between `min` and `max` milliseconds, for the share `probability` of requests."""

    min: Millis = 100.0
    max: Millis = 3000.0
    probability: Chance = 0.25

    def __post_init__(self) -> None:
        check_bounds(self.min, self.max)


class Config(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What is to happen to requests of the API while `enabled`, for at most `ttlS` seconds."""

    enabled: bool = False
    error_rate: Chance = 0.1
    error_status: Status = 503
    latency: Latency = Latency()
    timeout_rate: Chance = 0.05
    ttl_s: Seconds = 600.0

    def __post_init__(self) -> None:
        check_status(self.error_status)


class ConfigOut(msgspec.Struct, frozen=True, rename="camel"):
    """The configuration; `enabled` is whether its rules live, `expiresAt` when they end."""

    enabled: bool
    error_rate: float
    error_status: int
    latency: Latency
    timeout_rate: float
    ttl_s: float
    expires_at: datetime | None
    change: Changed | None = None


class InjectIn(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What to inject, for `durationS` seconds; what does not belong to the fault is not used."""

    min: Millis = 100.0
    max: Millis = 3000.0
    probability: Annotated[float, Meta(gt=0, le=1)] = 1.0
    status: Status = 503
    duration_s: Seconds = 30.0
    seed: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    route: Annotated[str, Meta(max_length=100)] = ""
    reason: Reason = ""

    def __post_init__(self) -> None:
        check_bounds(self.min, self.max)
        check_status(self.status)


class Waited(msgspec.Struct, frozen=True, rename="camel"):
    """How long the answer was kept."""

    waited_s: float


_CONFIG: Final = msgspec.json.Decoder(Config)
_INJECT: Final = msgspec.json.Decoder(InjectIn)


async def show(request: web.Request) -> web.Response:
    """GET /chaos/config: what is set, and whether it is in force."""
    rules = await read_all(request)
    return json_response(_config_out(_stored(request), rules))


async def put(request: web.Request) -> web.Response:
    """PUT /chaos/config: set it; with `enabled` it is in force when this is answered.

    What could not be put in force is not kept either.
    """
    config = decode(_CONFIG, await read_json(request))
    rules = rules_of(msgspec.structs.replace(config, enabled=True))
    request.app[CHANGES].check(rules, act_of(request, "chaos.config", ""))
    return await _set(request, config, "chaos.config")


async def enable(request: web.Request) -> web.Response:
    """POST /chaos/enable: put what is set in force, for its lease."""
    await read_all(request)
    config = msgspec.structs.replace(_stored(request), enabled=True)
    return await _set(request, config, "chaos.enable")


async def disable(request: web.Request) -> web.Response:
    """POST /chaos/disable: end what is set and what was injected."""
    await read_all(request)
    config = msgspec.structs.replace(_stored(request), enabled=False)
    return await _set(request, config, "chaos.disable", INJECT_IDS)


async def inject_latency(request: web.Request) -> web.Response:
    """POST /chaos/inject/latency: answer late for a while."""
    return await _inject(request, "latency")


async def inject_error(request: web.Request) -> web.Response:
    """POST /chaos/inject/error: answer with an error for a while."""
    return await _inject(request, "error")


async def inject_random(request: web.Request) -> web.Response:
    """POST /chaos/inject/random: one of latency, error and timeout, as the seed decides."""
    return await _inject(request, "random")


async def test_slow(request: web.Request) -> web.Response:
    """GET /chaos/test/slow: an answer that takes 2 to 4 seconds."""
    least, most = SLOW_S
    luck = draw(0, "slow", "", request[REQUEST_ID].encode(), 0)[1]
    longest = request.app[CONTEXT].settings.api_request_timeout_s * 0.8
    waited_s = min(least + (most - least) * luck, longest)
    await asyncio.sleep(waited_s)
    return json_response(Waited(round(waited_s, 3)))


async def test_error(request: web.Request) -> web.Response:
    """GET /chaos/test/error: an answer that fails."""
    del request
    raise Problem(500, "chaos_test", "This is the failure that was asked for.")


async def test_memory_leak(request: web.Request) -> web.Response:
    """GET /chaos/test/memory-leak: this worker's memory grows for 30 s, then it is given back."""
    worker = request.app[CONTEXT].settings.worker_id
    rule = RuleIn(
        fault="memory_leak",
        id=f"test-memory-leak-{worker}",
        scope=Scope(workers=(worker,)),
        ttl_s=LEAK_S,
        reason="test of a memory leak",
    )
    return await _changed(request, Change((rule,)), "chaos.test.memory_leak", rule.reason)


def rules_of(config: Config) -> list[RuleIn]:
    """The rules that a configuration stands for, none while it is not enabled."""
    if not config.enabled:
        return []
    late = {"min_ms": config.latency.min, "max_ms": config.latency.max}
    wanted: tuple[tuple[str, str, float, Mapping[str, Any]], ...] = (
        ("http-latency", "http_latency", config.latency.probability, late),
        ("http-error", "http_error", config.error_rate, {"status": config.error_status}),
        ("http-timeout", "http_timeout", config.timeout_rate, {}),
    )
    return [
        RuleIn(fault=fault, id=name, p=share, params=dict(params), ttl_s=config.ttl_s)
        for name, fault, share, params in wanted
        if share
    ]


def injected(what: str, given: InjectIn, luck: float) -> RuleIn:
    """The rule that an injection stands for; `luck` in [0, 1) decides what is random."""
    if what == "random":
        what = ("latency", "error", "timeout")[int(luck * 3)]
    params: dict[str, dict[str, Any]] = {
        "latency": {"min_ms": given.min, "max_ms": given.max},
        "error": {"status": given.status},
        "timeout": {},
    }
    return RuleIn(
        fault=f"http_{what}",
        id=f"inject-{what}",
        scope=Scope(route=given.route),
        p=given.probability,
        params=params[what],
        seed=given.seed,
        ttl_s=given.duration_s,
        reason=given.reason,
    )


def _stored(request: web.Request) -> Config:
    raw = request.app[AGENT].rules.configs.get(KEY)
    try:
        return Config() if raw is None else _CONFIG.decode(raw)
    except msgspec.DecodeError:
        return Config()


def _config_out(
    config: Config, rules: Mapping[str, Rule], change: Changed | None = None
) -> ConfigOut:
    ends = [rules[name].expires_at for name in CONFIG_IDS if name in rules]
    if change is not None:
        ends = [rule.expires_at for rule in change.rules]
    return ConfigOut(
        enabled=config.enabled and bool(ends),
        error_rate=config.error_rate,
        error_status=config.error_status,
        latency=config.latency,
        timeout_rate=config.timeout_rate,
        ttl_s=config.ttl_s,
        expires_at=max(ends, default=None),
        change=change,
    )


async def _set(
    request: web.Request, config: Config, action: str, also: tuple[str, ...] = ()
) -> web.Response:
    change = Change(rules_of(config), (*CONFIG_IDS, *also), {KEY: msgspec.json.encode(config)})
    done = await request.app[CHANGES].apply(change, act_of(request, action, ""))
    return json_response(_config_out(config, {}, done), status=200 if done.enabled else 202)


async def _inject(request: web.Request, what: str) -> web.Response:
    given = await _given(request)
    seed = given.seed or 0
    by = b"" if given.seed is not None else request[REQUEST_ID].encode()
    rule = injected(what, given, draw(seed, "inject", "", by, 0)[1])
    return await _changed(request, Change((rule,)), f"chaos.inject.{what}", given.reason)


async def _given(request: web.Request) -> InjectIn:
    """The body's members, and the query's, which go before."""
    given = await read_optional(request, _INJECT, InjectIn())
    query = dict(request.query)
    if not query:
        return given
    values = {**msgspec.to_builtins(given), **query}
    try:
        return msgspec.convert(values, InjectIn, strict=False)
    except msgspec.ValidationError as error:
        raise Problem(400, "bad_parameter", f"{error}.") from None


async def _changed(request: web.Request, change: Change, action: str, reason: str) -> web.Response:
    done = await request.app[CHANGES].apply(change, act_of(request, action, reason))
    return json_response(done, status=200 if done.enabled else 202)


_QUERY: Final = (
    Param("min", Millis, "shortest delay in ms"),
    Param("max", Millis, "longest delay in ms"),
    Param("probability", Annotated[float, Meta(gt=0, le=1)], "share of requests"),
    Param("status", Status, "status of an error"),
    Param("durationS", Seconds, "for so many seconds"),
    Param("seed", Annotated[int, Meta(ge=0, le=2**53)], "seed of what is random"),
    Param("route", Annotated[str, Meta(max_length=100)], "only requests of this route"),
    Param("reason", Reason, "why, for the audit log"),
)
_CHANGE_PROBLEMS: Final = (400, 409, 413, 415, 422)


def _both(
    method: str, path: str, handler: Any, summary: str, reply: Any, **more: Any
) -> list[Route]:
    """The route below /chaos and below /api/chaos."""
    if method != "GET":
        more.setdefault("headers", (OPERATOR,))
    return [
        Route(method, f"{prefix}{path}", handler, summary, reply, tag="chaos", **more)
        for prefix in ("/chaos", "/api/chaos")
    ]


def _injections() -> list[Route]:
    return [
        route
        for name, handler in (
            ("latency", inject_latency),
            ("error", inject_error),
            ("random", inject_random),
        )
        for route in _both(
            "POST",
            f"/inject/{name}",
            handler,
            f"Inject {name} into the API",
            Changed,
            params=_QUERY,
            body=InjectIn,
            body_required=False,
            also=((202, Changed),),
            problems=_CHANGE_PROBLEMS,
        )
    ]


ROUTES: Final = (
    *_both("GET", "/config", show, "Read the chaos of the API", ConfigOut),
    *_both(
        "PUT",
        "/config",
        put,
        "Set the chaos of the API",
        ConfigOut,
        body=Config,
        also=((202, ConfigOut),),
        problems=_CHANGE_PROBLEMS,
    ),
    *_both(
        "POST",
        "/enable",
        enable,
        "Put the chaos of the API in force",
        ConfigOut,
        also=((202, ConfigOut),),
        problems=(400, 409, 422),
    ),
    *_both(
        "POST",
        "/disable",
        disable,
        "End the chaos of the API",
        ConfigOut,
        also=((202, ConfigOut),),
        problems=(400,),
    ),
    *_injections(),
    *_both(
        "POST",
        "/phantom-event",
        phantom_event,
        "Try to provoke a phantom event",
        Provoked,
        problems=(400,),
    ),
    *_both("POST", "/lost-event", lost_event, "Try to lose an event", Provoked, problems=(400,)),
    *_both("GET", "/test/slow", test_slow, "Answer slowly", Waited),
    *_both("GET", "/test/error", test_error, "Answer with an error", Waited),
    *_both(
        "GET",
        "/test/memory-leak",
        test_memory_leak,
        "Leak memory for a while",
        Changed,
        also=((202, Changed),),
        problems=(409, 422),
    ),
)
