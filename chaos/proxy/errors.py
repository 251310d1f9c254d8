"""What the API refuses, with Toxiproxy's words and status codes."""

from __future__ import annotations

from http import HTTPStatus


class ApiError(Exception):
    """Answered as {"error": text, "status": status}."""

    def __init__(self, text: str, status: HTTPStatus) -> None:
        super().__init__(text)
        self.text, self.status = text, status

    def document(self) -> dict[str, object]:
        """The JSON body."""
        return {"error": self.text, "status": int(self.status)}


def bad_body(reason: str) -> ApiError:
    """The request makes no sense, and why."""
    return ApiError(f"bad request body: {reason}", HTTPStatus.BAD_REQUEST)


def missing_field(name: str) -> ApiError:
    """A field without a default is not there."""
    return ApiError(f"missing required field: {name}", HTTPStatus.BAD_REQUEST)


def proxy_not_found() -> ApiError:
    """No proxy of that name."""
    return ApiError("proxy not found", HTTPStatus.NOT_FOUND)


def proxy_already_exists() -> ApiError:
    """Names are unique."""
    return ApiError("proxy already exists", HTTPStatus.CONFLICT)


def invalid_stream() -> ApiError:
    """There are two."""
    return ApiError(
        "stream was invalid, can be either upstream or downstream", HTTPStatus.BAD_REQUEST
    )


def invalid_toxic_type(kind: str, known: str) -> ApiError:
    """No toxic is called so."""
    return ApiError(f"invalid toxic type: {kind!r}, there are: {known}", HTTPStatus.BAD_REQUEST)


def toxic_already_exists() -> ApiError:
    """Names are unique within a proxy, over both streams."""
    return ApiError("toxic already exists", HTTPStatus.CONFLICT)


def toxic_not_found() -> ApiError:
    """No toxic of that name at this proxy."""
    return ApiError("toxic not found", HTTPStatus.NOT_FOUND)


def too_many(what: str, most: int) -> ApiError:
    """A bound of ours; Toxiproxy has none."""
    return ApiError(f"there are {most} {what} already", HTTPStatus.CONFLICT)


def cannot_listen(address: str, reason: str) -> ApiError:
    """The operating system refuses, as a rule because the port is taken."""
    return ApiError(f"listen tcp {address}: {reason}", HTTPStatus.INTERNAL_SERVER_ERROR)
