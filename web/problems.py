"""Errors as application/problem+json (RFC 9457): the one way the API says no.

Guarantees: every error answer has type, title, status, code and requestId, and nothing of the
program's insides.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

import msgspec
from aiohttp import web

RETRY_AFTER_S: Final = 2


class FieldError(msgspec.Struct, frozen=True):
    """What is wrong with one member of a body; `field` is its path from `$`."""

    field: str
    message: str


class ProblemDetails(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The body of every error answer (RFC 9457); `code` is stable, `detail` is for people.

    Further members may stand beside these.
    """

    type: str
    title: str
    status: int
    code: str
    detail: str
    instance: str
    request_id: str
    errors: list[FieldError] | None = None


class Problem(Exception):
    """An answer other than success; raised by views, turned into a response at the edge.

    `code` is stable and machine-readable, `detail` is for people and safe to show, `fields` are
    extra members of the answer (such as `errors`), `headers` are added to the response.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: dict[str, str] | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers or {}
        self.fields = fields

    def response(self, request_id: str, path: str) -> web.Response:
        """Return the answer for the request `request_id` to `path`."""
        body = {
            "type": f"urn:symphony:problem:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            "instance": path,
            "requestId": request_id,
            **self.fields,
        }
        return web.Response(
            body=msgspec.json.encode(body),
            status=self.status,
            content_type="application/problem+json",
            headers=self.headers,
        )


def invalid(detail: str, pointer: str = "") -> Problem:
    """Return a 422: well-formed JSON that breaks a rule; `pointer` names the member (`$.total`)."""
    errors = [{"field": pointer or "$", "message": detail}]
    return Problem(422, "invalid_request", detail, errors=errors)


def not_found(what: str) -> Problem:
    """Return a 404 for `what` (such as `order`)."""
    return Problem(404, "not_found", f"There is no such {what}.")


def unavailable(code: str, detail: str) -> Problem:
    """Return a 503 that tells the client when to come again."""
    return Problem(503, code, detail, headers={"Retry-After": str(RETRY_AFTER_S)})


def of_http_error(error: web.HTTPException) -> Problem:
    """Return the problem for an error of aiohttp itself (no route, wrong method, body too big)."""
    phrase = HTTPStatus(error.status).phrase
    code = phrase.lower().replace(" ", "_").replace("-", "_").replace("'", "")
    detail = {
        404: "There is nothing at this address.",
        405: "This address does not answer that method.",
        413: "The request body is too large.",
    }.get(error.status, phrase)
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return Problem(error.status, code, detail, headers=headers)
