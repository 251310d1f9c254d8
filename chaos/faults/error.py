"""Fault `error`: the code path fails with an error of the platform."""

from __future__ import annotations

from typing import NoReturn

from app import errors
from app.failpoints import Hit
from chaos.faults.fault import BadFault, Strike

_BY_CODE = {cls.code: cls for cls in errors.catalogue()}
_POISON_REASON = "bad_command"


def build(argument: str) -> Strike:
    """`error` raises Indefinite, `error:CODE` the error of that code (docs/reference/errors.md)."""
    code = argument or errors.Indefinite.code
    if code not in _BY_CODE:
        raise BadFault(f"unknown error code {code!r}; known: {', '.join(sorted(_BY_CODE))}")
    cls = _BY_CODE[code]

    async def strike(hit: Hit) -> NoReturn:
        if issubclass(cls, errors.Poison):
            raise cls(_POISON_REASON, f"injected at {hit.point}")
        raise cls(f"injected at {hit.point}")

    return strike
