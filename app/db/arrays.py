"""PostgreSQL array literals: how a column of a batch travels.

psycopg2 adapts a list element by element (1 to 7 us each, measured by bench/arrays.py); one text
literal for the whole column costs about a tenth. Every statement casts its arrays, so the server
knows the type.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any


def array_literal(values: Sequence[Any]) -> str:
    """The literal of a flat array of str, bytes, int, float, bool, datetime or None.

    Raises TypeError for any other element.
    """
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return _quoted(value)
    if kind is int:
        return str(value)
    if kind is bytes:
        return f'"\\\\x{value.hex()}"'
    if value is None:
        return "NULL"
    if kind is bool:
        return "t" if value else "f"
    return _rare(value)


def _quoted(text: str) -> str:
    if '"' in text or "\\" in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _rare(value: Any) -> str:
    if isinstance(value, str):
        return _quoted(str(value))
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return repr(value)
    raise TypeError(f"no array element: {value!r}")
