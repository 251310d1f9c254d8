"""One request to the public API, with errors that say what happened and what to do."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any

from app.errors import SymphonyError

TIMEOUT_S = 10.0


class ApiError(SymphonyError):
    """The API refused or did not answer; `status` is 0 without an answer."""

    code = "api"
    doc = "The API refused a request or did not answer; the message says which."

    def __init__(self, detail: str, status: int = 0) -> None:
        super().__init__(detail)
        self.status = status


class Api:
    """The API at `url`; bodies and answers are JSON."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def get(self, path: str) -> Any:
        """Return the answer of GET `path`; raises ApiError."""
        return self._send(urllib.request.Request(self.url + path))  # noqa: S310

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
        """Return the answer of POST `path`; raises ApiError."""
        return self._send(self._request("POST", path, body, headers))

    def put(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
        """Return the answer of PUT `path`; raises ApiError."""
        return self._send(self._request("PUT", path, body, headers))

    def delete(self, path: str, headers: dict[str, str] | None = None) -> Any:
        """Return the answer of DELETE `path`; raises ApiError."""
        return self._send(self._request("DELETE", path, None, headers))

    def _request(
        self, method: str, path: str, body: Any, headers: dict[str, str] | None
    ) -> urllib.request.Request:
        data = None if body is None else json.dumps(body).encode()
        return urllib.request.Request(  # noqa: S310
            self.url + path,
            data=data,
            headers={"Content-Type": "application/json", **(headers or {})},
            method=method,
        )

    def _send(self, request: urllib.request.Request) -> Any:
        if not request.full_url.startswith(("http://", "https://")):
            raise ApiError(f"{self.url} is no address: http://HOST:PORT is expected")
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise ApiError(_problem(error), error.code) from None
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise ApiError(f"the API at {self.url} does not answer: {reason}") from None
        except ValueError:
            raise ApiError(f"the answer of {request.full_url} is not JSON") from None


def _problem(error: urllib.error.HTTPError) -> str:
    """The detail of a problem document, with the member it is about."""
    try:
        problem = json.loads(error.read())
        detail = str(problem["detail"])
        fields = [one["field"] for one in problem.get("errors", ())]
    except (ValueError, KeyError, TypeError, OSError):
        return f"{error.code} {error.reason}"
    place = f" ({', '.join(fields)})" if fields else ""
    return f"{detail}{place} [{error.code} {problem.get('code', '')}]"
