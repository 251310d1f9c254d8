"""What a zombie would write late: for sagas that wait, the changelog record from before. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from chaos.records import Record


def records_before(changelog: Iterable[Record]) -> list[Record]:
    """For each saga that waits to be committed, the record before that; empty ones left out."""
    history: dict[tuple[int, bytes | None], list[Record]] = {}
    for record in changelog:
        history.setdefault((record.partition, record.key), []).append(record)
    found = []
    for records in history.values():
        states = [_state(record) for record in records]
        if states[-1] == "COMMIT_PENDING" and "SHIPPING_PENDING" in states:
            found.append(records[len(states) - 1 - states[::-1].index("SHIPPING_PENDING")])
    return found


def _state(record: Record) -> str:
    if record.value is None:
        return ""
    _schema, _definition, _order_id, _version, state, *_ = msgspec.msgpack.decode(record.value)
    return str(state)
