"""Record batches written byte by byte: aiokafka's builder refuses what a broker accepts."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from time import time
from typing import NamedTuple

from aiokafka.codec import gzip_encode
from aiokafka.record.util import calc_crc32c

GZIP, APPEND_TIME, CONTROL = 0x01, 0x08, 0x20
FIRST_MS = int(time() * 1000)
"""The present: a broker deletes at once what is older than its topic's retention."""
MAX_MS = FIRST_MS + 100_000
OVERHEAD = 96
"""More than a batch of one record needs besides its key, value and headers."""


class RawRecord(NamedTuple):
    """A record whose header names are bytes."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[bytes, bytes | None]] = ()


def batch(records: Sequence[RawRecord], *, base_offset: int = 0, attributes: int = 0) -> bytes:
    """One batch (format v2) with a valid checksum; compressed when `attributes` say so."""
    data = b"".join(_record(number, one) for number, one in enumerate(records))
    if attributes & GZIP:
        data = gzip_encode(data)
    last, count = len(records) - 1, len(records)
    checked = struct.pack(">hiqqqhii", attributes, last, FIRST_MS, MAX_MS, -1, -1, -1, count) + data
    head = struct.pack(">qiibI", base_offset, len(checked) + 9, 0, 2, calc_crc32c(checked))
    return head + checked


def _record(number: int, one: RawRecord) -> bytes:
    body = b"\0" + _varint(number * 10) + _varint(number) + _bytes(one.key) + _bytes(one.value)
    body += _varint(len(one.headers))
    body += b"".join(_bytes(name) + _bytes(content) for name, content in one.headers)
    return _varint(len(body)) + body


def _bytes(content: bytes | None) -> bytes:
    return _varint(-1) if content is None else _varint(len(content)) + content


def _varint(number: int) -> bytes:
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)
