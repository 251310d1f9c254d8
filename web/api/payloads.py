"""Raw bytes of a record as people read them: JSON, text or a hex dump, never more than a bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

_ROW: Final = 16


class PayloadOut(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What a record carries: exactly one of `json`, `text` and `hexdump`, none when it is null.

    `bytes` is the whole size; `truncated` says that less is shown.
    """

    bytes: int
    json: msgspec.Raw | None = None
    text: str | None = None
    hexdump: str | None = None
    truncated: bool = False


class HeaderOut(msgspec.Struct, frozen=True, omit_defaults=True):
    """One header; `hex` in place of `text` when it is not UTF-8 text, neither when it is null."""

    name: str
    text: str | None = None
    hex: str | None = None


def payload_out(value: bytes | None, shown_max: int) -> PayloadOut | None:
    """Return the readable form of a record's value, None for a null value."""
    if value is None:
        return None
    if len(value) <= shown_max and _is_json(value):
        return PayloadOut(len(value), json=msgspec.Raw(value))
    shown = value[:shown_max]
    truncated = len(shown) < len(value)
    text = _text(shown, cut=truncated)
    if text is not None:
        return PayloadOut(len(value), text=text, truncated=truncated)
    return PayloadOut(len(value), hexdump=hexdump(shown), truncated=truncated)


def headers_out(headers: Sequence[tuple[str, bytes | None]], shown_max: int) -> list[HeaderOut]:
    """Return headers in their order, each value bounded."""
    return [_header(name, value, shown_max) for name, value in headers]


def text_or_hex(raw: bytes | None, shown_max: int) -> str | None:
    """Return a key as text, or as 0x... when it is none."""
    if raw is None:
        return None
    text = _text(raw[:shown_max], cut=len(raw) > shown_max)
    return text if text is not None else f"0x{raw[:shown_max].hex()}"


def hexdump(raw: bytes) -> str:
    """Return rows of offset, 16 bytes in hex, and what of them is printable ASCII."""
    rows = []
    for at in range(0, len(raw), _ROW):
        row = raw[at : at + _ROW]
        shown = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
        rows.append(f"{at:08x}  {row.hex(' '):<{_ROW * 3 - 1}}  |{shown}|")
    return "\n".join(rows)


def _header(name: str, value: bytes | None, shown_max: int) -> HeaderOut:
    if value is None:
        return HeaderOut(name)
    shown = value[:shown_max]
    text = _text(shown, cut=len(shown) < len(value))
    return HeaderOut(name, text=text) if text is not None else HeaderOut(name, hex=shown.hex())


def _is_json(value: bytes) -> bool:
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _text(raw: bytes, *, cut: bool) -> str | None:
    """The text of `raw`, None when it is not text; a character that the bound cut is left out."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        if not cut or error.start < len(raw) - 3:
            return None
        text = raw[: error.start].decode()
    plain = text.replace("\n", "").replace("\t", "").replace("\r", "")
    return text if plain.isprintable() else None
