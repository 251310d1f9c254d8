"""The catalogue of experiments through the API: what may be started, and what it would do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec

from app.observability.health import json_response
from web.routes import Route

if TYPE_CHECKING:
    from aiohttp import web

    from chaos.gameday.experiment import Experiment


class StrikeOut(msgspec.Struct, frozen=True, rename="camel"):
    """What will be broken, and when."""

    name: str
    begins_s: float
    arguments: dict[str, Any]


class ExperimentOut(msgspec.Struct, frozen=True, rename="camel"):
    """One experiment of the catalogue with what it does as its file says."""

    name: str
    title: str
    description: str
    hypothesis: str
    scenario: str
    expected: str
    needs: list[str]
    rate_per_s: float
    duration_s: float
    seed: int
    plan: list[StrikeOut]


class ExperimentsOut(msgspec.Struct, frozen=True):
    """The catalogue."""

    experiments: list[ExperimentOut]


async def experiments(request: web.Request) -> web.Response:
    """GET /api/gameday/experiments: the catalogue."""
    del request
    return json_response(ExperimentsOut(await asyncio.to_thread(_catalogue)))


def _catalogue() -> list[ExperimentOut]:
    from chaos.gameday import catalogue

    return [_experiment_out(catalogue.shipped(name)) for name in catalogue.names()]


def _experiment_out(one: Experiment) -> ExperimentOut:
    return ExperimentOut(
        name=one.name,
        title=one.title,
        description=str(one.data["description"]).strip(),
        hypothesis=one.ours.hypothesis,
        scenario=one.ours.scenario,
        expected=one.ours.expected,
        needs=one.ours.needs,
        rate_per_s=one.knobs.rate_per_s,
        duration_s=one.knobs.duration_s,
        seed=one.knobs.seed,
        plan=[
            StrikeOut(strike.name, strike.begins_s, dict(strike.arguments)) for strike in one.plan()
        ],
    )


ROUTES: Final = (
    Route(
        "GET",
        "/api/gameday/experiments",
        experiments,
        "List the catalogue of experiments",
        ExperimentsOut,
        tag="gameday",
    ),
)
