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
from chaos.auditor.snapshot import pane_facts
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
    store.execute("update record set approved = true where topic = 'order.reviewed'")
    _tell(store)
    _count(store)
    views.prepare(store)


def _tell(store: Store) -> None:
    """Notifications of what happened: the lab of the recorded books had no such role."""
    store.execute(
        """
        insert into notification by name
        select md5(kind || order_id::varchar)::uuid as id, order_id::varchar as subject, kind,
               '' as occurrence, 'SENT' as status, 1.0 as sent_s
          from (select order_id, 'order_received' as kind from orders
                union all select order_id, 'order_' || lower(state) from saga
                 where terminal and state in ('COMPLETED', 'CANCELLED', 'REJECTED'))
        """
    )
    store.execute(
        "insert into notice by name select row_number() over () as line, id, subject,"
        " subject::uuid as order_id, kind, occurrence, 1.0 as at_s from notification"
    )


def _count(store: Store) -> None:
    """What role slo has counted of it: the lab of the recorded books had no such role either."""
    store.execute("update record set said_s = at_s - 0.25, created_s = at_s - 1.5, held = false")
    store.execute("update record set letter_id = position_id where topic like '%.dlt'")
    rows = store.rows(
        "select event_id::varchar, partition, status, coalesce(reason, ''), said_s, at_s"
        " from record where topic = 'order.status_changed' and status in"
        " ('COMPLETED', 'CANCELLED', 'REJECTED', 'PARKED') order by \"offset\""
    )
    events = {row[0]: row[1:] for row in reversed(rows)}
    letters = store.rows(
        "select position_id::varchar, partition, at_s from record where topic like '%.dlt'"
    )
    panes: dict[tuple[str, int, int, int], list[int]] = {}
    for partition, status, reason, said_s, _ in events.values():
        good = status != "PARKED" and reason != "timeout"
        said = [("availability", good)] + [("fraud", True)] * (status != "PARKED")
        said += [("completion", True)] * (status == "COMPLETED")
        for sli, was_good in said:
            _add(panes, sli, partition, said_s, good=was_good)
    for _, partition, at_s in letters:
        _add(panes, "dead_letters", partition, at_s, good=False)
    counted = [("slo", event_id) for event_id in events]
    counted += [("slo-letters", position_id) for position_id, _, _ in letters]
    store.insert("inbox", [{"consumer": consumer, "event_id": event_id, "status": 0}
                           for consumer, event_id in counted])  # fmt: skip
    store.insert("pane", [_pane(place, *counts) for place, counts in panes.items()])
    store.execute(
        "insert into changelog by name select 'slo_panes' as tbl, partition,"
        " row_number() over () as \"offset\", sli || '|' || width_s || '|' || start_s as key,"
        " body_hash from pane"
    )
    store.execute("insert into instant select max(at_s) + 5 from record")


def _add(
    panes: dict[tuple[str, int, int, int], list[int]], sli: str, partition: int, at_s: float,
    *, good: bool,
) -> None:  # fmt: skip
    for width_s in (10, 300):
        place = (sli, width_s, int(at_s // width_s) * width_s, partition)
        panes.setdefault(place, [0, 0])[not good] += 1


def _pane(place: tuple[str, int, int, int], good: int, bad: int) -> dict[str, Any]:
    """A pane of equal latencies, where its indicator has any."""
    sli, width_s, start_s, partition = place
    buckets = {"12": good} if sli == "completion" else {}
    facts = pane_facts({"good": good, "bad": bad, "sketch": {"zero": 0, "buckets": buckets}})
    return {
        "sli": sli, "width_s": width_s, "start_s": start_s, "partition": partition, "good": good,
        "bad": bad, **facts._asdict(),
    }  # fmt: skip


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
