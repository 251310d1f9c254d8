"""A small consistent world for the reconciliation: database rows, two ledger files, topics."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psycopg2

from chaos.reconcile.reading import Sources
from chaos.reconcile.topics import Record

PATHS = {
    "happy": "PAYMENT_PENDING INVENTORY_PENDING SHIPPING_PENDING COMMIT_PENDING COMPLETED",
    "declined": "PAYMENT_PENDING CANCELLED",
    "out_of_stock": "PAYMENT_PENDING INVENTORY_PENDING COMPENSATING CANCELLED",
    "shipping_refused": (
        "PAYMENT_PENDING INVENTORY_PENDING SHIPPING_PENDING COMPENSATING CANCELLED"
    ),
    "cancelled": "PAYMENT_PENDING INVENTORY_PENDING COMPENSATING CANCELLED",
}
REASONS = {
    "happy": "",
    "declined": "payment_declined",
    "out_of_stock": "out_of_stock",
    "shipping_refused": "shipping_refused",
    "cancelled": "customer",
}
PAYMENTS = {"happy": "CHARGED", "declined": "DECLINED"}
RESERVATIONS = {
    "happy": "COMMITTED",
    "out_of_stock": "RELEASED",
    "shipping_refused": "RELEASED",
    "cancelled": "RELEASED",
}
TOTAL = 5_000


class FakeTopics:
    """Topics in memory, with the interface of the topic reader."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def append(self, topic: str, order_id: str, body: dict[str, Any], event_id: str) -> None:
        """Append one record to partition 0."""
        offset = sum(record.topic == topic for record in self.records)
        value = json.dumps(body).encode()
        headers = {"ce_id": event_id.encode()}
        self.records.append(Record(topic, 0, offset, order_id.encode(), value, headers))

    def topics(self) -> list[str]:
        """Names of all topics."""
        return sorted({"order.created", "order.status_changed", *(r.topic for r in self.records)})

    def ends(self, topics: Iterable[str]) -> dict[tuple[str, int], int]:
        """The end of everything, as one partition."""
        return {("all", 0): len(self.records)}

    def read(self, topics: Iterable[str]) -> Iterator[Record]:
        """Every record of `topics`."""
        wanted = set(topics)
        yield from (record for record in self.records if record.topic in wanted)


class Books:
    """One order of each class, two of them happy, recorded alike by all four parties."""

    def __init__(self, dsn: str, directory: Path) -> None:
        self.dsn = dsn
        self._connection = psycopg2.connect(dsn)
        self._connection.autocommit = True
        self.load_ledger = directory / "load.jsonl"
        self.gateway_ledger = directory / "gateway.jsonl"
        self.fake = FakeTopics()
        self.orders: dict[str, str] = {}
        self._requests: list[dict[str, Any]] = []
        self._attempts: list[dict[str, Any]] = []
        self.sql("insert into inventory.stock values ('DRUM', 98, 0, 2, 100), ('GONG', 0, 0, 0, 0)")
        for name in ("happy", "happy-2", *(n for n in PATHS if n != "happy")):
            self._order(name)
        self.write()

    def close(self) -> None:
        """Give the database free."""
        self._connection.close()

    def sources(self) -> Sources:
        """What the reconciliation reads."""
        return Sources(self.dsn, self.fake, self.gateway_ledger, [self.load_ledger])

    def sql(self, statement: str, *values: Any) -> None:
        """Change the database behind everybody's back."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values)

    def write(self) -> None:
        """Write both ledger files anew."""
        for path, lines in (
            (self.load_ledger, self._requests),
            (self.gateway_ledger, self._attempts),
        ):
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def request(self, name: str, **fields: Any) -> dict[str, Any]:
        """Append a request to the load ledger (kept until `write`)."""
        line = {"op": name, "kind": "create", "outcome": "ok", "expected": "", "order_id": "",
                "idempotency_key": f"key-{name}", "detail": "", **fields}  # fmt: skip
        self._requests.append(line)
        return line

    def attempt(self, op: str, order_id: str, outcome: str = "ok", **fields: Any) -> dict[str, Any]:
        """Append an attempt to the gateway's ledger (kept until `write`)."""
        line = {"op": op, "order_id": order_id, "idempotency_key": f"{op}-{order_id}",
                "amount_minor": TOTAL, "currency": "EUR", "outcome": outcome, "replied": True,
                **fields}  # fmt: skip
        self._attempts.append(line)
        return line

    def late_order(self) -> str:
        """One more declined order, recorded alike by all four parties; its id."""
        self._order("declined-2")
        self.write()
        return self.orders["declined-2"]

    def drop(self, op: str, order_id: str) -> None:
        """Remove attempts from the gateway's ledger."""
        self._attempts = [
            line for line in self._attempts if (line["op"], line["order_id"]) != (op, order_id)
        ]

    def _order(self, name: str) -> None:
        kind = name.removesuffix("-2")
        order_id = self.orders[name] = str(uuid.uuid5(uuid.NAMESPACE_OID, name))
        self.request(name, expected=kind, order_id=order_id)
        if kind == "cancelled":
            self.request(f"{name}-cancel", kind="cancel", expected=kind, order_id=order_id)
        self._rows(kind, name, order_id)
        self._money(kind, order_id)
        created = {"order_id": order_id, "total_minor": TOTAL, "currency": "EUR"}
        self.fake.append("order.created", order_id, created, f"created-{name}")
        for version, status in enumerate(PATHS[kind].split(), 1):
            body = {"order_id": order_id, "status": status, "saga_version": version}
            self.fake.append("order.status_changed", order_id, body, f"{name}-{status}")

    def _rows(self, kind: str, name: str, order_id: str) -> None:
        path, reason = PATHS[kind].split(), REASONS[kind]
        self.sql(
            "insert into orders.orders (order_id, customer_id, total_minor, currency, created_at)"
            " values (%s, 'ada', %s, 'EUR', now())",
            *(order_id, TOTAL),
        )
        self.sql("insert into orders.idempotency values (%s, '', %s, '', now())",
                 f"key-{name}", order_id)  # fmt: skip
        self.sql("insert into orders.order_item values (%s, 1, %s, 1, %s, true)",
                 order_id, "GONG" if kind == "out_of_stock" else "DRUM", TOTAL)  # fmt: skip
        self.sql(
            "insert into orders.saga (order_id, partition, version, state, reason, terminal, body,"
            " created_at, updated_at) values (%s, 0, %s, %s, %s, true, '', now(), now())",
            *(order_id, len(path), path[-1], reason),
        )
        for version, status in enumerate(path, 1):
            if kind == "cancelled" and status == "COMPENSATING":
                self.history(order_id, "", "cancel_requested", version - 1)
                self.history(order_id, "cancel_requested", path[version - 2], version)
            self.history(order_id, status.lower(), status, version)
        self.sql(
            "insert into payments.payment_attempt (order_id, status, version, charge_id,"
            " amount_minor, currency) values (%s, %s, 2, %s, %s, 'EUR')",
            *(order_id, PAYMENTS.get(kind, "REFUNDED"), str(uuid.uuid4()), TOTAL),
        )
        self._goods(kind, order_id)

    def history(self, order_id: str, event: str, status: str, version: int = 1) -> None:
        """Append a line to an order's history; one of the API has no event."""
        self.sql(
            "insert into orders.order_history (order_id, saga_version, event, status, at)"
            " values (%s, %s, %s, %s, now())",
            *(order_id, version, event, status),
        )

    def _goods(self, kind: str, order_id: str) -> None:
        if kind in RESERVATIONS:
            self.sql("insert into inventory.reservation values (%s, %s, 1)",
                     order_id, RESERVATIONS[kind])  # fmt: skip
            if kind != "out_of_stock":
                self.sql("insert into inventory.reservation_line values (%s, 'DRUM', 1)", order_id)
        shipment = {"happy": "SHIPPED", "shipping_refused": "REFUSED"}.get(kind)
        if shipment:
            self.sql("insert into shipping.shipment values (%s, %s, 1)", order_id, shipment)

    def _money(self, kind: str, order_id: str) -> None:
        self.attempt("charge", order_id, "declined" if kind == "declined" else "ok")
        if kind in ("out_of_stock", "shipping_refused", "cancelled"):
            self.attempt("refund", order_id)
