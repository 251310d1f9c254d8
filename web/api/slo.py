"""Views of the service level objectives: how they stand, from what role slo has counted.

They need PostgreSQL alone: no Prometheus, and no worker of role slo. While none works the age of
the data grows and is told; beyond `slo_stale_after_s` nothing is known, and every figure is null.
"""

from __future__ import annotations

from typing import Annotated, Final

from aiohttp import web
from msgspec import Meta

from app.observability.health import json_response
from app.slo.report import ObjectiveOut, Report
from web.problems import Problem
from web.routes import Param, Route
from web.slo import OBJECTIVES

_NAME: Final = Param(
    "name",
    Annotated[str, Meta(examples=["availability"])],
    "of an objective: completion, availability, dead_letters, fraud",
)


async def metrics(request: web.Request) -> web.Response:
    """GET /api/metrics/slo: all objectives, with windows, burn rates, budgets and alerts.

    What is not known is null: nothing was counted in a window, or the data are stale.
    """
    return json_response(await request.app[OBJECTIVES].report())


async def objective(request: web.Request) -> web.Response:
    """GET /api/slo/{name}: one objective; 404 names the objectives that there are."""
    report = await request.app[OBJECTIVES].report()
    name = request.match_info["name"]
    for one in report.objectives:
        if one.name == name:
            return json_response(one)
    known = ", ".join(one.name for one in report.objectives)
    raise Problem(404, "unknown_objective", f"There is no such objective; there are: {known}.")


ROUTES: Final = (
    Route("GET", "/api/metrics/slo", metrics, "Show all objectives", Report, tag="slo"),
    Route(
        "GET", "/api/slo/{name}", objective, "Show an objective", ObjectiveOut, params=(_NAME,),
        tag="slo",
    ),
)  # fmt: skip
