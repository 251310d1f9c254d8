"""PostgreSQL array literals: how a column of a batch travels.

psycopg2 adapts a list element by element; one text literal for the whole column costs the client
less than half of that (bench/arrays.py), because a column of one plain type is written by one join.
Every statement casts its arrays, so the server knows the type.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any


def array_literal(values: Sequence[Any]) -> str:
    """The literal of a flat array of str, bytes, int, float, bool, datetime or None.

    Raises TypeError for any other element.
    """
    kinds = set(map(type, values))
    if len(kinds) == 1:
        (kind,) = kinds
        if kind is int:
            return "{" + ",".join(map(str, values)) + "}"
        if kind is bytes:
            return '{"\\\\x' + '","\\\\x'.join(map(bytes.hex, values)) + '"}'
        if kind is datetime:
            return "{" + ",".join(map(datetime.isoformat, values)) + "}"
        if issubclass(kind, str):
            text = '","'.join(values)
            # exactly the quotes that were put between the elements: nothing needs escaping
            if "\\" not in text and text.count('"') == 2 * (len(values) - 1):
                return '{"' + text + '"}'
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        escaped = str.__str__(value).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, bytes):
        return f'"\\\\x{value.hex()}"'
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float):
        return repr(value)
    raise TypeError(f"no array element: {value!r}")
