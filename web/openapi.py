"""The API's description in OpenAPI 3.1, made of the routes that are served.

`document` is pure; `python -m web.openapi > docs/reference/openapi.json` writes the product's, and
GET /openapi.json answers with that of the running server, a laboratory's routes included.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta

from app.observability.health import package_version
from web.problems import RETRY_AFTER_S, ProblemDetails
from web.routes import OneOf, Param, Route

JSON: Final = "application/json"
PROBLEM_JSON: Final = "application/problem+json"
_REF: Final = "#/components/schemas/{name}"
_IN_PATH: Final = re.compile(r"{(\w+)[^}]*}")

REQUEST_ID: Final = Param(
    "X-Request-ID",
    Annotated[str, Meta(examples=["checkout-7f3a91c2"])],
    "the request's id, 8 to 128 of A-Z a-z 0-9 . _ : -; a new one is made for any other text",
)
ORDER_ID: Final = Param(
    "order_id",
    Annotated[
        str,
        Meta(
            examples=["0198c0de-7a11-7c0d-9b6e-3f2f6d1f5a01"],
            extra_json_schema={"format": "uuid"},
        ),
    ],
    "the order's id",
)
ANSWERED: Final = Param("X-Request-ID", str, "the id under which the request was logged")
RETRY_AFTER: Final = Param(
    "Retry-After", Annotated[int, Meta(ge=0, examples=[RETRY_AFTER_S])], "seconds to wait"
)

PROBLEMS: Final = {
    400: ("bad_parameter", "A parameter, a header or the JSON is malformed."),
    401: ("unauthorized", "Who asks is not known."),
    403: ("forbidden", "Who asks may not do that."),
    404: ("not_found", "There is nothing under that name."),
    409: ("already_final", "The state does not allow it; nothing was changed."),
    410: ("gone", "It existed, and was removed."),
    412: ("version_changed", "It was changed since it was read; nothing was changed."),
    413: ("request_entity_too_large", "The body is too large."),
    415: ("unsupported_media_type", "The body must be application/json."),
    422: ("invalid_request", "The body breaks a rule; `errors` says which member."),
    423: ("locked", "Somebody else is at it."),
    429: ("rate_limited", "Too many requests of one client."),
    500: ("internal_error", "The request failed; quote the request id."),
    502: ("bad_gateway", "A server behind this one answered nonsense."),
    503: ("overloaded", "It cannot be done now; nothing was begun unless the detail says so."),
    504: ("timeout", "A server behind this one did not answer in time."),
}
"""What a problem of a status means: the code of its example, and a sentence."""

_RETRIED: Final = (429, 503)
_DESCRIPTION: Final = (
    "Orders, sagas and what operators do with them. Errors are problem documents (RFC 9457) with a"
    " stable `code`. Lists are paged by key: pass `next` of an answer on until it is null. A 202"
    " says that what was asked for is durable; the saga then decides."
)


class About(NamedTuple):
    """What a document is about."""

    title: str
    description: str


PRODUCT: Final = About("Chaos Symphony", _DESCRIPTION)


def document(routes: Sequence[Route], about: About = PRODUCT) -> dict[str, Any]:
    """Return the description of `routes`; equal routes give equal documents."""
    types = _types(routes)
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    writer = _Writer(dict(zip(map(id, types), map(_portable, schemas), strict=True)))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = _IN_PATH.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = writer.operation(route)
    statuses = sorted({status for route in routes for status in _problems(route)})
    return {
        "openapi": "3.1.0",
        "info": {
            "title": about.title,
            "version": package_version(),
            "summary": "At-least-once delivery, effects once, audited.",
            "description": about.description,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "this server"}],
        "tags": [{"name": name} for name in sorted({_tag(route) for route in routes})],
        "paths": paths,
        "components": {
            "schemas": {name: _portable(components[name]) for name in sorted(components)},
            "responses": {_problem_name(one): writer.problem(one) for one in statuses},
        },
    }


def encoded(routes: Sequence[Route], about: About = PRODUCT) -> bytes:
    """Return the document as JSON that people can read."""
    return (json.dumps(document(routes, about), indent=2, ensure_ascii=False) + "\n").encode()


class _Writer:
    """Writes operations; `schemas` has the schema of each type by its identity."""

    def __init__(self, schemas: dict[int, dict[str, Any]]) -> None:
        self._schemas = schemas

    def operation(self, route: Route) -> dict[str, Any]:
        """Return one operation."""
        found: dict[str, Any] = {
            "operationId": operation_id(route),
            "summary": route.summary,
            "description": inspect.getdoc(route.handler) or route.summary,
            "tags": [_tag(route)],
            "parameters": [self._parameter(param, place) for param, place in _parameters(route)],
        }
        if route.body is not None:
            found["requestBody"] = {
                "required": route.body_required,
                "content": {JSON: self._content(route.body, route.examples)},
            }
        found["responses"] = self._responses(route)
        return found

    def problem(self, status: int) -> dict[str, Any]:
        """Return the answer with a problem document of `status`."""
        code, meaning = PROBLEMS.get(status, (f"status_{status}", HTTPStatus(status).phrase))
        headers = [ANSWERED, RETRY_AFTER] if status in _RETRIED else [ANSWERED]
        example = ProblemDetails(
            type=f"urn:symphony:problem:{code}",
            title=HTTPStatus(status).phrase,
            status=status,
            code=code,
            detail=meaning,
            instance="/api/orders",
            request_id="checkout-7f3a91c2",
        )
        content = self._content(ProblemDetails, ())
        content["example"] = msgspec.to_builtins(example)
        return {
            "description": meaning,
            "headers": self._headers(headers),
            "content": {PROBLEM_JSON: content},
        }

    def _responses(self, route: Route) -> dict[str, Any]:
        answers = [(route.status, route.reply, route.reply_headers), *(
            (status, reply, ()) for status, reply in route.also
        )]  # fmt: skip
        found: dict[str, Any] = {}
        for status, reply, headers in answers:
            found[str(status)] = answer = {
                "description": HTTPStatus(status).phrase,
                "headers": self._headers([ANSWERED, *headers]),
            }
            if reply is not None:
                answer["content"] = {route.media: self._content(reply, ())}
        for status in _problems(route):
            found.setdefault(
                str(status), {"$ref": f"#/components/responses/{_problem_name(status)}"}
            )
        return found

    def _parameter(self, param: Param, place: str) -> dict[str, Any]:
        return {
            "name": param.name,
            "in": place,
            "required": param.required or place == "path",
            "description": param.meaning,
            "schema": self._schemas[id(param.type)],
        }

    def _headers(self, params: Iterable[Param]) -> dict[str, Any]:
        return {
            param.name: {"description": param.meaning, "schema": self._schemas[id(param.type)]}
            for param in params
        }

    def _content(self, body: Any, examples: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        if isinstance(body, OneOf):
            schema: dict[str, Any] = {"anyOf": [self._schemas[id(one)] for one in body.types]}
        else:
            schema = self._schemas[id(body)]
        content: dict[str, Any] = {"schema": schema}
        named = {name: {"value": msgspec.to_builtins(value)} for name, value in examples}
        if named:
            content["examples"] = named
        return content


def operation_id(route: Route) -> str:
    """Return the operation's unique name: its method and path in camel case."""
    words = re.findall(r"[A-Za-z0-9]+", _IN_PATH.sub(r"by_\1", route.path).replace("_", " "))
    return route.method.lower() + "".join(word[:1].upper() + word[1:] for word in words)


def _types(routes: Sequence[Route]) -> list[Any]:
    """Every type that the document mentions, each object once."""
    found: list[Any] = [ProblemDetails, ANSWERED.type, RETRY_AFTER.type]
    for route in routes:
        found += [param.type for param, _ in _parameters(route)]
        found += [param.type for param in route.reply_headers]
        found += [one for one in (route.body, route.reply) if one is not None]
        found += [reply for _, reply in route.also if reply is not None]
    flat = [one for it in found for one in (it.types if isinstance(it, OneOf) else (it,))]
    return list({id(one): one for one in flat}.values())


def _parameters(route: Route) -> list[tuple[Param, str]]:
    """The parameters with where they stand; what the path names and nobody declares is text."""
    names = _IN_PATH.findall(route.path)
    declared = {param.name: param for param in route.params}
    known = {ORDER_ID.name: ORDER_ID, **declared}
    in_path = [known.get(name, Param(name, str, name.replace("_", " "))) for name in names]
    in_query = [param for param in route.params if param.name not in names]
    return [
        *((param, "path") for param in in_path),
        *((param, "query") for param in in_query),
        *((param, "header") for param in (*route.headers, REQUEST_ID)),
    ]


def _problems(route: Route) -> list[int]:
    missing = [404] if _IN_PATH.search(route.path) else []
    others = {status for status, _ in route.also}
    return sorted({*route.problems, *missing, 500, 503} - others)


def _problem_name(status: int) -> str:
    return "".join(re.findall(r"\w+", HTTPStatus(status).phrase.title()))


def _tag(route: Route) -> str:
    return route.tag or route.path.removeprefix("/api").split("/")[1].split(".")[0]


def _portable(schema: Any) -> Any:
    """JSON Schema's patterns are JavaScript's, where `$` is the end alone and `\\Z` nothing."""
    if isinstance(schema, dict):
        return {
            name: value.replace(r"\Z", "$") if name == "pattern" else _portable(value)
            for name, value in schema.items()
        }
    return [_portable(one) for one in schema] if isinstance(schema, list) else schema


def main() -> None:
    """Write the description of the product's routes to standard output."""
    from web.application import declared_routes

    sys.stdout.buffer.write(encoded(declared_routes()))


if __name__ == "__main__":
    main()
