"""Views of the canary: its share of the orders, and how it does beside the stable arm."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from app.control.canary import CanaryConfig
from app.domain.canary import ArmFigures
from app.durations import seconds_of
from app.errors import BrokerOutage
from app.observability.health import json_response
from web.actor import actor_of
from web.api.bodies import decode, read_json
from web.canary import CanaryControl, Standing
from web.context import CONTEXT
from web.edge import REQUEST_ID
from web.problems import Problem, invalid, unavailable
from web.routes import OPERATOR, Param, Route

WINDOW_DEFAULT: Final = "5m"
WINDOW_MAX_S: Final = 86_400.0

Reason = Annotated[str, Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*\Z")]


class CanaryIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The canary's share: `percent` 0 to 100, or its older name `percentage`, 0 to 1.

    `auto` lets it be rolled back and promoted by its figures; the default is a setting.
    """

    percent: Annotated[float, Meta(ge=0, le=100)] | None = None
    percentage: Annotated[float, Meta(ge=0, le=1)] | None = None
    auto: bool | None = None
    reason: Reason = ""


class CanaryOut(msgspec.Struct, frozen=True, rename="camel"):
    """The canary's share, and whether it is in force.

    `in_force`: every orchestrator has said so; `enabled`: it is, and some orders go to the canary.
    `canary_workers` are those that were heard of lately.
    """

    percent: float
    percentage: float
    auto: bool
    enabled: bool
    in_force: bool
    promoted: bool
    version: int
    by: str | None
    since: datetime | None
    reason: str | None
    acked: list[str]
    pending: list[str]
    canary_workers: list[str]


class ArmOut(msgspec.Struct, frozen=True, rename="camel"):
    """The charges that one arm took up; `errors` failed at least once. Ratios are null without any.

    Latencies are from the request to the outcome, of charges that wait so far.
    """

    attempts: int
    ok: int
    declined: int
    errors: int
    retrying: int
    parked: int
    retried: int
    cancelled: int
    pending: int
    error_ratio: float | None
    decline_ratio: float | None
    p50_ms: float | None
    p95_ms: float | None


class ComparisonOut(msgspec.Struct, frozen=True, rename="camel"):
    """Both arms over a window. `verdict`: insufficient_data, healthy or breached, with reasons."""

    since: datetime
    until: datetime
    percent: float
    stable: ArmOut
    canary: ArmOut
    verdict: str
    reasons: list[str]


_BODY: Final = msgspec.json.Decoder(CanaryIn)


async def show(request: web.Request) -> web.Response:
    """GET /api/canary/config."""
    return json_response(_out(_control(request).standing()))


async def change(request: web.Request) -> web.Response:
    """PUT or POST /api/canary/config: answered when every orchestrator has it, or says who lacks.

    409 while no canary worker lives: its orders would wait for nobody.
    """
    context, control = request.app[CONTEXT], _control(request)
    actor = actor_of(request)
    wanted = decode(_BODY, await read_json(request))
    if (wanted.percent is None) == (wanted.percentage is None):
        raise invalid("give either percent (0 to 100) or percentage (0 to 1)")
    percent = wanted.percent if wanted.percent is not None else (wanted.percentage or 0) * 100
    if percent > 0 and not control.standing().workers:
        raise Problem(
            409,
            "no_canary_worker",
            "No worker of role payment-canary was heard of: start one with"
            " `symphony scale payment-canary 1` (or `symphony worker payment-canary`), then ask"
            " again.",
        )
    auto = context.settings.canary_auto if wanted.auto is None else wanted.auto
    config = CanaryConfig(
        percent=percent, auto=auto, by=actor, since=context.clock.now(), reason=wanted.reason
    )
    try:
        standing = await control.change(
            config, action="canary.change", request_id=request[REQUEST_ID]
        )
    except BrokerOutage:
        raise unavailable(
            "broker_unavailable", "Kafka did not take the change; it may still come to be in force."
        ) from None
    return json_response(_out(standing))


async def compare(request: web.Request) -> web.Response:
    """GET /api/canary/comparison?window=5m: the charges taken up in the last five minutes."""
    control = _control(request)
    try:
        window_s = seconds_of(request.query.get("window", WINDOW_DEFAULT))
    except ValueError as error:
        raise Problem(400, "bad_parameter", f"window: {error}") from None
    if not 1 <= window_s <= WINDOW_MAX_S:
        raise Problem(400, "bad_parameter", "window must be from 1s to 24h.")
    until = request.app[CONTEXT].clock.now()
    found = await control.compare(until - timedelta(seconds=window_s), until)
    config = control.standing().config
    return json_response(
        ComparisonOut(
            since=found.since,
            until=found.until,
            percent=0.0 if config is None else config.percent,
            stable=_arm(found.stable),
            canary=_arm(found.canary),
            verdict=found.judgement.verdict.value,
            reasons=list(found.judgement.reasons),
        )
    )


def _control(request: web.Request) -> CanaryControl:
    control = request.app[CONTEXT].canary
    if control is None or not control.known:
        raise unavailable(
            "canary_unknown", "The canary's configuration has not been read from Kafka yet."
        )
    return control


def _out(standing: Standing) -> CanaryOut:
    config = standing.config
    percent = 0.0 if config is None else config.percent
    in_force = bool(standing.acked) and not standing.pending
    return CanaryOut(
        percent=percent,
        percentage=percent / 100,
        auto=config is not None and config.auto,
        enabled=in_force and percent > 0,
        in_force=in_force,
        promoted=config is not None and config.promoted,
        version=standing.version,
        by=None if config is None else config.by,
        since=None if config is None else config.since,
        reason=None if config is None else config.reason or None,
        acked=list(standing.acked),
        pending=list(standing.pending),
        canary_workers=list(standing.workers),
    )


def _arm(arm: ArmFigures) -> ArmOut:
    return ArmOut(
        **arm._asdict(),
        errors=arm.errors,
        error_ratio=arm.error_ratio,
        decline_ratio=arm.decline_ratio,
    )


_CHANGES: Final = (400, 409, 413, 415, 422)
ROUTES = (
    Route("GET", "/api/canary/config", show, "Read the canary's share", CanaryOut, tag="canary"),
    Route(
        "PUT",
        "/api/canary/config",
        change,
        "Change the canary's share",
        CanaryOut,
        CanaryIn,
        problems=_CHANGES,
        tag="canary",
        headers=(OPERATOR,),
    ),
    Route(
        "POST",
        "/api/canary/config",
        change,
        "Change the canary's share (alias of PUT)",
        CanaryOut,
        CanaryIn,
        problems=_CHANGES,
        tag="canary",
        headers=(OPERATOR,),
    ),
    Route(
        "GET",
        "/api/canary/comparison",
        compare,
        "Compare the canary with the stable arm",
        ComparisonOut,
        params=(Param("window", str, "how far back, 5m or PT5M; default 5m, at most 24h"),),
        problems=(400,),
        tag="canary",
    ),
)
