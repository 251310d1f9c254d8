"""Who acts: the name an operator gives, until the API authenticates."""

from __future__ import annotations

import re
from typing import Final

from aiohttp import web

from web.problems import Problem

HEADER: Final = "X-Operator"
UNNAMED: Final = "operator"
_NAME: Final = re.compile(r"[\x20-\x7e]{1,100}")


def actor_of(request: web.Request) -> str:
    """Return the X-Operator header, `operator` when absent; raises Problem 400 for a bad one."""
    given = request.headers.get(HEADER, UNNAMED).strip()
    if _NAME.fullmatch(given) is None:
        raise Problem(400, "bad_operator", f"{HEADER} must be 1-100 visible ASCII characters.")
    return given
