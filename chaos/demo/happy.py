"""Demo 1, the happy path: one order, its saga, its page, and its records on the topics."""

from __future__ import annotations

import time
import urllib.request
from collections import Counter
from collections.abc import Iterable
from secrets import token_hex

from app.topics import CATALOGUE
from chaos.console.recorded import place_recorded
from chaos.demo.script import Script, Stage
from chaos.records import Record, read

COMPLETED_S = 60.0
TRAVELLED = (
    "order.created",
    "payment.requested",
    "payment.result",
    "inventory.requested",
    "inventory.result",
    "shipping.requested",
    "shipping.result",
    "inventory.commit",
)
"""Where an order that completes leaves its mark, in the order of the saga."""
STATUSES = (
    "PAYMENT_PENDING",
    "INVENTORY_PENDING",
    "SHIPPING_PENDING",
    "COMMIT_PENDING",
    "COMPLETED",
)


def play(stage: Stage, script: Script) -> None:
    """Order once and follow it to its end. Raises PromiseBroken."""
    since_ms = int(time.time() * 1000)
    script.scene("Order for 42.00 EUR")
    body = {"customerId": "ada", "total": "42.00", "currency": "EUR"}
    reply = place_recorded(stage.target, body, f"demo-{token_hex(8)}")
    order_id = reply["orderId"]
    script.tell(f"POST /api/orders: order {order_id}, accepted and durable")

    script.scene("The saga drives it: payment, inventory, shipping, commit")
    saga = script.wait(
        "the saga completes", lambda: stage.in_state(order_id, "COMPLETED"), COMPLETED_S
    )
    for entry in saga["history"]:
        script.tell(f"{entry['at'][11:23]}  {entry['event']:<18}  {entry['status']}")
    reached = [entry["status"] for entry in saga["history"]]
    passed = [status for status in STATUSES if status in reached]
    script.promise("it went through every state", passed == list(STATUSES), reached)

    script.scene("Its page shows it")
    page = f"{stage.target.url}/orders/{order_id}"
    with urllib.request.urlopen(page, timeout=10) as answer:  # noqa: S310 (the lab's own address)
        text = answer.read().decode().lower()
    script.promise(f"{page} says Completed", order_id in text and "completed" in text, text[:200])

    script.scene("Its records stand on the topics, each key in one partition")
    found = records_of(order_id, read(stage.target.bootstrap, CATALOGUE, since_ms=since_ms))
    for one in found:
        kind = (dict(one.headers).get("ce_type") or b"").decode("utf-8", "replace")
        script.tell(f"{one.topic:<22} {one.partition}/{one.offset:<6} {kind}")
    counts = Counter(one.topic for one in found)
    missing = [topic for topic in TRAVELLED if not counts[topic]]
    script.promise("every command and every answer is there", not missing, missing)
    announced = counts["order.status_changed"]
    script.promise("each change of status was announced", announced >= len(STATUSES), announced)


def records_of(order_id: str, records: Iterable[Record]) -> list[Record]:
    """Those about one order, in the order in which they came."""
    mine = [one for one in records if one.key == order_id.encode()]
    return sorted(mine, key=lambda one: (one.timestamp, one.topic, one.partition, one.offset))
