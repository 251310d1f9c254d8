"""Recorded books in a store: consistent until a test plants something."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from chaos.auditor import audit, views
from chaos.auditor.invariants import Book
from chaos.auditor.judge import judge
from chaos.auditor.report.document import document
from chaos.auditor.sources import Sources
from chaos.auditor.store import Store
from chaos.auditor.verdict import Verdict

CLASSES = {
    "happy": "happy", "declined": "declined", "refused": "shipping_refused",
    "cancelled": "cancelled", "sold_out": "out_of_stock",
}  # fmt: skip


@lru_cache(maxsize=1)
def recorded() -> dict[str, list[dict[str, Any]]]:
    """Every table's rows as they were read from a real lab (record_books.py)."""
    found: dict[str, list[dict[str, Any]]] = json.loads(
        Path(__file__).with_name("books.json").read_text()
    )
    return found


def fill(store: Store) -> None:
    """Put the recorded books into an empty store."""
    for table, rows in recorded().items():
        store.insert(table, rows)
    _tell(store)
    views.prepare(store)


def _tell(store: Store) -> None:
    """Notifications of what happened: the lab of the recorded books had no such role."""
    store.execute(
        """
        insert into notification by name
        select md5(kind || order_id::varchar)::uuid as id, order_id::varchar as subject, kind,
               'SENT' as status, 1.0 as sent_s
          from (select order_id, 'order_received' as kind from orders
                union all select order_id, 'order_' || lower(state) from saga
                 where terminal and state in ('COMPLETED', 'CANCELLED', 'REJECTED'))
        """
    )
    store.execute(
        "insert into notice by name select row_number() over () as line, id, subject,"
        " subject::uuid as order_id, kind, 1.0 as at_s from notification"
    )


def orders() -> dict[str, str]:
    """An order of each class by name; a second happy one; a parked one."""
    requests = [one for one in recorded()["request"] if one["kind"] == "create"]
    states = {one["order_id"]: one["state"] for one in recorded()["saga"]}
    found = {}
    for name, expected in CLASSES.items():
        ended = "COMPLETED" if name == "happy" else "CANCELLED"
        ids = [
            one["order_id"] for one in requests
            if one["expected"] == expected and states[one["order_id"]] == ended
            and (name != "happy" or _tracked(one["order_id"]))
        ]  # fmt: skip
        found[name] = ids[0]
        if name == "happy":
            found["happy2"] = ids[1]
    found["parked"] = next(order for order, state in states.items() if state == "PARKED")
    return found


def _tracked(order_id: str) -> bool:
    return any(one["order_id"] == order_id for one in recorded()["reservation_line"])


def plant(store: Store, sql: str) -> None:
    """Run the statements of a defect."""
    known = orders()
    for statement in sql.split(";"):
        store.execute(re.sub(r"\$([a-z0-9_]+)", lambda at: f"'{known[at[1]]}'::uuid", statement))


def document_of(store: Store, **how: Any) -> dict[str, Any]:
    """The document of the store's verdict, as of one moment and from one lab."""
    sources = Sources(
        "postgresql://auditor:secret@127.0.0.1:5432/symphony", "127.0.0.1:9092", "symphony",
        (Path("load.jsonl"),), Path("gateway.jsonl"), None,
    )  # fmt: skip
    at = datetime(2026, 11, 28, 12, tzinfo=UTC)
    return document(verdict_of(store, **how), sources=sources, options=audit.Options(), at=at)


def verdict_of(store: Store, *, unread: dict[Book, str] | None = None, unrest: str = "") -> Verdict:
    """Judge the store's books."""
    return judge(
        store, unread=unread or {}, unrest=unrest, facts=audit.facts(store), progress=lambda _: None
    )
