"""What Prometheus and Alertmanager say over HTTP, bounded in time and size.

Synchronous. Every way in which they can fail (away, slow, an error, an answer that is none) is one
exception, Unreadable, so that whoever asks can say "unknown" and go on.
"""

from __future__ import annotations

import http.client
import json
import math
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any, NamedTuple

ANSWER_MAX_BYTES = 32 * 1024 * 1024
TIMEOUT_S = 5.0

READ_BYTES = 64 * 1024
Labels = Mapping[str, str]
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""The lab's servers are on this machine: no proxy leads there."""


class Unreadable(Exception):
    """No usable answer; the text says whose and why."""


class Series(NamedTuple):
    """One series of an answer: its labels, and (time in seconds since the epoch, value)."""

    labels: Labels
    samples: tuple[tuple[float, float], ...]


class Active(NamedTuple):
    """An alert as Prometheus has it now: `state` is pending or firing."""

    name: str
    state: str
    labels: Labels


class Prometheus:
    """A Prometheus server. Every method raises Unreadable."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self.url, self._timeout_s = url.rstrip("/"), timeout_s

    def alerts(self) -> list[Active]:
        """Alerts that are pending or firing now."""
        data = self._get("/api/v1/alerts", {})
        try:
            return [
                Active(one["labels"]["alertname"], one["state"], one["labels"])
                for one in data["alerts"]
            ]
        except (KeyError, TypeError) as error:
            raise self._odd(error) from None

    def query(self, expression: str, at_s: float | None = None) -> list[Series]:
        """An instant vector, or with a range selector every sample of that range."""
        asked = {"query": expression, **({} if at_s is None else {"time": f"{at_s:.3f}"})}
        return self._series(self._get("/api/v1/query", asked))

    def query_range(
        self, expression: str, from_s: float, until_s: float, step_s: float
    ) -> list[Series]:
        """The expression at every step of a while."""
        asked = {
            "query": expression,
            "start": f"{from_s:.3f}",
            "end": f"{until_s:.3f}",
            "step": f"{step_s:.3f}",
        }
        return self._series(self._get("/api/v1/query_range", asked))

    def _series(self, data: Any) -> list[Series]:
        try:
            kind = data["resultType"]
            if kind not in ("vector", "matrix"):
                raise TypeError(f"a {kind}")
            return [
                Series(
                    {str(key): str(value) for key, value in one["metric"].items()},
                    tuple(
                        (float(at), float(value))
                        for at, value in (one["values"] if kind == "matrix" else [one["value"]])
                    ),
                )
                for one in data["result"]
            ]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._odd(error) from None

    def _get(self, path: str, asked: Mapping[str, str]) -> Any:
        words = f"?{urllib.parse.urlencode(asked)}" if asked else ""
        document = fetch(f"{self.url}{path}{words}", self._timeout_s, "Prometheus")
        if not isinstance(document, dict) or document.get("status") != "success":
            raise Unreadable(f"Prometheus at {self.url} gave no success: {str(document)[:200]}")
        return document.get("data")

    def _odd(self, error: Exception) -> Unreadable:
        return Unreadable(
            f"the answer of Prometheus at {self.url} has another form:"
            f" {type(error).__name__}: {error}"
        )


class Alertmanager:
    """An Alertmanager. Every method raises Unreadable."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def alerts(self) -> dict[str, bool]:
        """Names of alerts that have arrived and go on, and whether all of that name are inhibited
        or silenced.
        """
        found = fetch(f"{self.url}/api/v2/alerts", TIMEOUT_S, "Alertmanager")
        told: dict[str, bool] = {}
        try:
            for one in found:
                name = one["labels"]["alertname"]
                suppressed = one["status"]["state"] == "suppressed"
                told[name] = told.get(name, True) and suppressed
        except (KeyError, TypeError, AttributeError) as error:
            raise Unreadable(
                f"the answer of Alertmanager at {self.url} has another form: {error!r}"
            ) from None
        return told


def fetch(url: str, timeout_s: float, whose: str) -> Any:
    """The JSON document at `url`, whole within `timeout_s`. Raises Unreadable."""
    deadline = time.monotonic() + timeout_s
    body = bytearray()
    try:
        with _OPENER.open(url, timeout=timeout_s) as answer:
            while (part := answer.read1(READ_BYTES)) and len(body) <= ANSWER_MAX_BYTES:
                body += part
                if time.monotonic() > deadline:
                    raise Unreadable(f"{whose} took longer than {timeout_s:g} s for its answer")
    except urllib.error.HTTPError as error:
        raise Unreadable(f"{whose} answered {error.code} {error.reason}: {_said(error)}") from None
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise Unreadable(f"{whose} does not answer at {url.partition('?')[0]}: {reason}") from None
    if len(body) > ANSWER_MAX_BYTES:
        raise Unreadable(f"the answer of {whose} is larger than {ANSWER_MAX_BYTES:,} bytes")
    try:
        return json.loads(body, parse_constant=_constant)
    except (ValueError, RecursionError):
        raise Unreadable(f"the answer of {whose} is not JSON") from None


def _constant(name: str) -> float:
    return {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}[name]


def _said(error: urllib.error.HTTPError) -> str:
    """Prometheus says in JSON what was wrong."""
    try:
        return str(json.loads(error.read(4096))["error"])[:200]
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return "no reason given"
