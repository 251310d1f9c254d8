"""One JSON request to a control API of the lab."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from typing import Any

TIMEOUT_S = 10.0
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(
    method: str,
    url: str,
    body: Any = None,
    *,
    timeout_s: float = TIMEOUT_S,
    headers: Mapping[str, str] | None = None,
) -> Any:
    """The answer's JSON, None when it is empty. Raises OSError, HTTPError for a refusal."""
    data = None if body is None else json.dumps(body).encode()
    all_headers = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(  # noqa: S310 (an address of our own lab)
        url, data, all_headers, method=method
    )
    with _opener.open(request, timeout=timeout_s) as reply:
        content = reply.read()
    return json.loads(content) if content else None
