"""The API's description: valid, current, and of everything that is served."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jsonschema
import msgspec
import pytest
from aiohttp import web
from openapi_spec_validator import validate

from app.settings import load_settings
from chaos.lab.parts import STANDARD_PLUGINS
from chaos.openapi import ABOUT, LAB_ROUTES
from tests.integration.chaos_kit import FakeApp
from web import openapi
from web.api.bodies import OrderIn
from web.application import build, declared_routes
from web.context import Context
from web.routes import ROUTES, Param, Route

pytestmark = pytest.mark.unit

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
PAGE = REFERENCE / "openapi.json"
LAB_PAGE = REFERENCE / "openapi-lab.json"
PAGES = pytest.mark.parametrize("page", [PAGE, LAB_PAGE], ids=["product", "lab"])


async def unused(_: web.Request) -> web.Response:
    """Do nothing; more is told here."""
    return web.Response()


def undeclared(application: web.Application) -> set[tuple[str, str]]:
    """What is served below /api without being declared."""
    declared = {(route.method, route.path) for route in declared_routes()}
    served = {
        (route.method, route.resource.canonical)
        for route in application.router.routes()
        if route.resource is not None
    }
    return {one for one in served if one[1].startswith("/api/")} - declared


def test_the_documents_are_current() -> None:
    """`python -m web.openapi > docs/reference/openapi.json` would change nothing, nor would
    `python -m chaos.openapi > docs/reference/openapi-lab.json`.
    """
    assert PAGE.read_bytes() == openapi.encoded(declared_routes())
    assert LAB_PAGE.read_bytes() == openapi.encoded(LAB_ROUTES, ABOUT)


def test_the_documents_are_openapi() -> None:
    """The official schema and every rule of the validator hold for each, and for what a lab's
    server answers: both together.
    """
    validate(json.loads(PAGE.read_bytes()))
    validate(json.loads(LAB_PAGE.read_bytes()))
    validate(json.loads(openapi.encoded([*declared_routes(), *LAB_ROUTES])))


def test_every_served_api_route_is_declared() -> None:
    """A route added to the router by hand would be in no description and in no fuzz test."""
    context = Context(load_settings(role="web"), cast("Any", SimpleNamespace()))
    application = build(context)
    assert undeclared(application) == set()
    by_hand = build(context)
    by_hand.router.add_route("GET", "/api/secret", unused)
    assert undeclared(by_hand) == {("GET", "/api/secret")}


def test_what_the_plug_ins_of_a_lab_serve_is_the_lab_s_document() -> None:
    """All that is installed in every worker of a lab, and nothing else."""
    worker: Any = FakeApp(load_settings(role="web", lab=True), "web")
    worker.service = lambda _: None
    worker.lifecycle = SimpleNamespace(probe=SimpleNamespace(status=dict))
    for name in STANDARD_PLUGINS:
        importlib.import_module(name).install(worker)
    context = Context(worker.settings, cast("Any", SimpleNamespace()))
    application = build(context, worker.web_extensions)
    assert application[ROUTES] == [*declared_routes(), *LAB_ROUTES]
    below_chaos = {route.path for route in LAB_ROUTES if not route.path.startswith("/api/")}
    assert undeclared(application) == {
        (route.method, route.path) for route in LAB_ROUTES if route.path not in below_chaos
    }


def test_operations_have_unique_names_and_say_what_they_do() -> None:
    """Generated clients need a name per operation, people a summary."""
    routes = [*declared_routes(), *LAB_ROUTES]
    names = [openapi.operation_id(route) for route in routes]
    assert len(set(names)) == len(names)
    assert all(route.summary and route.handler.__doc__ for route in routes)


@PAGES
def test_every_reference_resolves(page: Path) -> None:
    """Nothing points at a component that is not there."""
    text = page.read_text()
    found = json.loads(text)
    for kind, name in set(re.findall(r'"#/components/(\w+)/([^"]+)"', text)):
        assert name in found["components"][kind]


@PAGES
def test_examples_satisfy_their_schemas(page: Path) -> None:
    """What the document shows is what the API takes and answers."""
    found = json.loads(page.read_bytes())
    shown = 0
    contents = [
        content
        for path in found["paths"].values()
        for operation in path.values()
        for content in operation.get("requestBody", {}).get("content", {}).values()
    ]
    for answer in found["components"]["responses"].values():
        contents += answer["content"].values()
    for content in contents:
        schema = {**content["schema"], "components": found["components"]}
        examples = [one["value"] for one in content.get("examples", {}).values()]
        for example in [*examples, *filter(None, [content.get("example")])]:
            jsonschema.validate(example, schema)
            shown += 1
    assert shown > 5


@pytest.mark.parametrize(
    ("total", "taken"),
    [("12.50", True), (12.5, True), (1, True), ("-1", False), (0, False), ([], False)],
)
def test_money_in_a_request_is_declared_as_it_is_taken(total: Any, taken: bool) -> None:
    """Numbers and text, not negative, nothing else."""
    found = openapi.document(declared_routes())
    schema = {"$ref": "#/components/schemas/OrderIn", "components": found["components"]}
    body = {"customerId": "ada", "total": total}
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(body) is taken
    assert not validator.is_valid({"customerId": "a\x07", "total": "1"})
    assert isinstance(msgspec.json.decode(msgspec.json.encode(body), type=OrderIn), OrderIn)


def test_what_a_route_declares_is_in_its_operation() -> None:
    """Parameters by place, statuses, headers and the types of further answers."""
    route = Route(
        "PUT",
        "/api/things/{thing_id}/{at:[0-9]+}",
        unused,
        "Put a thing",
        reply=dict[str, int],
        status=201,
        params=(Param("at", int, "where"), Param("deep", bool, "all of it", required=True)),
        problems=(409, 429),
        headers=(Param("X-Operator", str, "who"),),
        reply_headers=(Param("Location", str, "where it is"),),
        also=((503, dict[str, str]),),
    )
    found = openapi.document([route])
    validate(found)
    operation = found["paths"]["/api/things/{thing_id}/{at}"]["put"]
    places = {one["name"]: (one["in"], one["required"]) for one in operation["parameters"]}
    assert places == {
        "thing_id": ("path", True),
        "at": ("path", True),
        "deep": ("query", True),
        "X-Operator": ("header", False),
        "X-Request-ID": ("header", False),
    }
    assert operation["operationId"] == "putApiThingsByThingIdByAt"
    assert operation["tags"] == ["things"]
    responses = operation["responses"]
    assert set(responses) == {"201", "404", "409", "429", "500", "503"}
    assert set(responses["201"]["headers"]) == {"X-Request-ID", "Location"}
    assert responses["503"]["content"]["application/json"]["schema"]["type"] == "object"
    too_many = found["components"]["responses"]["TooManyRequests"]
    assert set(too_many["headers"]) == {"X-Request-ID", "Retry-After"}
    assert list(too_many["content"]) == ["application/problem+json"]
