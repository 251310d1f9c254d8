"""A tolerant reader of record batches (format v2) for what aiokafka's own reader refuses.

The broker takes a header name for bytes, aiokafka insists on UTF-8 and gives up the whole batch.
Here such a record comes out as a `MisnamedRecord`, its neighbours as the records they are. Slow
(pure Python), so it is given only batches in which aiokafka has failed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from aiokafka import codec
from aiokafka.structs import ConsumerRecord, TopicPartition

NAME_BYTES_KEPT = 256
"""A longer name that is not UTF-8 is cut: escaped it grows fourfold, and a dead letter must fit."""

_HEADER = struct.Struct(">qiibIhiqqqhii")
_BEFORE_LENGTH_ENDS = 12
_MAGIC = 2
_CODEC_MASK, _LOG_APPEND_TIME = 0x07, 0x08
_DECOMPRESS: dict[int, Callable[[bytes], bytes]] = {
    0: lambda data: data,
    1: codec.gzip_decode,
    2: codec.snappy_decode,
    3: codec.lz4_decode,
    4: codec.zstd_decode,
}


class MisnamedRecord(ConsumerRecord):
    """A consumed record with a header name that is not UTF-8; such names are escaped (`\\xff`)."""


class Batch(NamedTuple):
    """One record batch; `end` is the position behind it in the bytes it was found in."""

    end: int
    next_offset: int
    base_offset: int
    timestamp_ms: int
    append_time: bool
    record_count: int
    data: bytes


def find_batch(raw: bytes, position: int, offset: int) -> Batch:
    """Return the first batch at or behind `position` that ends behind `offset`, decompressed.

    Raises LookupError when there is none. Checksum and codec are not looked at: aiokafka has read
    the batch before and has refused one with a wrong checksum or a codec that is not installed.
    """
    while position + _HEADER.size <= len(raw):
        fields = _HEADER.unpack_from(raw, position)
        base_offset, length, _, magic, _, attributes, last_delta, first_ms, max_ms = fields[:9]
        start, position = position, position + _BEFORE_LENGTH_ENDS + length
        if magic != _MAGIC or base_offset + last_delta < offset:
            continue
        append_time = bool(attributes & _LOG_APPEND_TIME)
        decompress = _DECOMPRESS[attributes & _CODEC_MASK]
        return Batch(
            position,
            base_offset + last_delta + 1,
            base_offset,
            max_ms if append_time else first_ms,
            append_time,
            fields[12],
            decompress(raw[start + _HEADER.size : position]),
        )
    raise LookupError(f"no batch with offset {offset}")


def records(batch: Batch, tp: TopicPartition) -> Iterator[ConsumerRecord]:
    """Yield the records of `batch` in order; those with a bad header name as MisnamedRecord.

    Raises IndexError for bytes that are no records; no broker accepts those.
    """
    data, position = batch.data, 0
    for _ in range(batch.record_count):
        _, position = _varint(data, position)
        delta_ms, position = _varint(data, position + 1)
        offset_delta, position = _varint(data, position)
        key, position = _bytes(data, position)
        value, position = _bytes(data, position)
        count, position = _varint(data, position)
        headers: list[tuple[str, bytes | None]] = []
        kind = ConsumerRecord
        for _ in range(count):
            raw_name, position = _bytes(data, position)
            content, position = _bytes(data, position)
            try:
                name = (raw_name or b"").decode()
            except UnicodeDecodeError:
                name, kind = _printable(raw_name or b""), MisnamedRecord
            headers.append((name, content))
        yield kind(
            tp.topic,
            tp.partition,
            batch.base_offset + offset_delta,
            batch.timestamp_ms if batch.append_time else batch.timestamp_ms + delta_ms,
            int(batch.append_time),
            key,
            value,
            None,
            -1 if key is None else len(key),
            -1 if value is None else len(value),
            tuple(headers),
        )


def _printable(name: bytes) -> str:
    text = name[:NAME_BYTES_KEPT].decode("utf-8", "backslashreplace")
    return text if len(name) <= NAME_BYTES_KEPT else text + "..."


def _bytes(data: bytes, position: int) -> tuple[bytes | None, int]:
    length, position = _varint(data, position)
    if length < 0:
        return None, position
    return data[position : position + length], position + length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Read a zigzag-encoded number and the position behind it."""
    shift = result = 0
    while True:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (result >> 1) ^ -(result & 1), position
        shift += 7
