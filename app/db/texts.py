"""What PostgreSQL can store of a text: not U+0000, which a poison record may well contain."""

from __future__ import annotations

from typing import Any

import msgspec


def storable(text: str) -> str:
    """Return `text` with U+FFFD in place of U+0000."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def storable_json(value: Any) -> str:
    """Return `value` as JSON, its texts storable."""
    return storable(msgspec.json.encode(value).decode().replace("\\u0000", "\\ufffd"))
