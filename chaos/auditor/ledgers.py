"""Books of others: of the load, the payment gateway, the nemesis, the notification sink, and of
what chaos rules lost on purpose.

All are JSON lines. A torn last line (its writer was killed) is left out; any other unreadable line
makes the ledger unreadable, because evidence with holes proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from chaos.auditor.sources import UnreadableError
from chaos.auditor.store import Store

_decode = msgspec.json.Decoder().decode


def read_requests(paths: Iterable[Path], store: Store) -> int:
    """Every request once, with the last that is known of it; one that was only sent is unknown.

    Raises UnreadableError for a missing or damaged ledger.
    """
    count = 0
    for path in paths:
        count += store.insert("request", _shaped(path, _request))
    store.execute(
        "create or replace table request as select * exclude (place) from"
        " (select *, row_number() over (partition by op order by outcome = 'sent', returned_s desc)"
        " as place from request) where place = 1"
    )
    store.execute("update request set outcome = 'unknown' where outcome = 'sent'")
    return count


def read_gateway(path: Path, store: Store) -> int:
    """Every attempt in the order it was recorded. Raises UnreadableError."""
    return store.insert("gateway", _shaped(path, _attempt))


def read_notices(path: Path, store: Store) -> int:
    """Every notification that the sink has taken, in that order. Raises UnreadableError."""
    return store.insert("notice", _shaped(path, _notice))


def read_actions(path: Path, store: Store) -> int:
    """Every phase of every fault of the nemesis. Raises UnreadableError."""
    return store.insert("action", _shaped(path, _action))


def read_losses(directory: Path, store: Store) -> int:
    """Every delivery that a chaos rule lost on purpose. Raises UnreadableError."""
    return sum(store.insert("loss", _shaped(path, _loss)) for path in directory.glob("*.jsonl"))


def _shaped(
    path: Path, shape: Callable[[int, dict[str, Any]], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    for number, line in _lines(path):
        try:
            yield shape(number, line)
        except (KeyError, TypeError, ValueError) as error:
            raise UnreadableError(f"{path}:{number}: {error!r}") from None


def _request(_: int, line: dict[str, Any]) -> dict[str, Any]:
    return {
        "op": line["op"],
        "kind": line["kind"],
        "outcome": line["outcome"],
        "expected": line["expected"],
        "key": line["idempotency_key"],
        "request_id": line.get("request_id", ""),
        "order_id": _uuid(line["order_id"]),
        "body_hash": line.get("body_hash", ""),
        "reply_hash": line.get("reply_hash", ""),
        "status": line.get("status", 0),
        "sent_s": line.get("sent_s", 0.0),
        "returned_s": line.get("returned_s", 0.0),
        "detail": line.get("detail", ""),
    }


def _attempt(number: int, line: dict[str, Any]) -> dict[str, Any]:
    return {
        "line": number,
        "op": line["op"],
        "order_id": _uuid(line["order_id"]),
        "order_text": line["order_id"],
        "key": line["idempotency_key"],
        "amount_minor": int(line["amount_minor"]),
        "currency": line["currency"],
        "outcome": line["outcome"],
        "replied": bool(line["replied"]),
        "attempt": int(line.get("attempt", 0)),
        "body_hash": line.get("body_hash", ""),
        "at_s": _seconds(line.get("at")),
        "charge_key": line.get("charge_key", ""),
        "detail": line.get("detail", ""),
    }


def _notice(number: int, line: dict[str, Any]) -> dict[str, Any]:
    return {
        "line": number,
        "id": _uuid(line["id"]),
        "subject": line["subject"],
        "order_id": _uuid(line["subject"]),
        "kind": line["kind"],
        "occurrence": line.get("occurrence", ""),
        "at_s": _seconds(line.get("at")),
    }


def _action(_: int, line: dict[str, Any]) -> dict[str, Any]:
    return {
        "action": line["action"],
        "fault": line["fault"],
        "target": line["target"],
        "phase": line["phase"],
        "at_s": float(line["at_s"]),
        "seed": int(line.get("seed", 0)),
        "lease_s": float(line.get("lease_s", 0.0)),
        "detail": str(line.get("detail", "")),
    }


def _loss(_: int, line: dict[str, Any]) -> dict[str, Any]:
    return {
        "consumer": line["consumer"],
        "topic": line["topic"],
        "partition": int(line["partition"]),
        "offset": int(line["offset"]),
        "rule": line["rule"],
        "at_s": float(line["at_s"]),
    }


def _seconds(at: str | None) -> float:
    return datetime.fromisoformat(at).timestamp() if at else 0.0


def _uuid(text: str) -> str | None:
    try:
        return UUID(text).hex if text else None
    except ValueError:
        return None


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                if raw.endswith(b"\n"):
                    yield number, _decode(raw)
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableError(f"{path}: {error}") from None
