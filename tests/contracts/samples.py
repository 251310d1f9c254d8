"""One sample of every message type, and the golden file that keeps its bytes.

`python -m tests.contracts.samples` writes the files that are missing; it never changes one that
exists: bytes once published stay as they are, a different message is a new version.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.messages import (
    ApiRateLimited,
    Body,
    Cause,
    ChaosInjected,
    InventoryCommit,
    InventoryRelease,
    InventoryRequested,
    InventoryResult,
    Item,
    OrderCancel,
    OrderCreated,
    OrderOperate,
    OrderReviewed,
    OrderStatusChanged,
    Output,
    PaymentRefund,
    PaymentRequested,
    PaymentResult,
    ShippingCancel,
    ShippingRequested,
    ShippingResult,
    StockLine,
    StockLow,
    emit,
)
from app.topics import CATALOGUE

GOLDEN = Path(__file__).parent / "golden"

ORDER = "0b6c2d0e-1f7a-5a58-9d1c-6f2b1a3c4d5e"
COMMAND = "1c7d3e1f-2a8b-5b69-8e2d-7a3c2b4d5e6f"
EVENT = "2d8e4f2a-3b9c-5c7a-9f3e-8b4d3c5e6f7a"
AT = datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)
CAUSE = Cause(COMMAND, "request-42", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")

SAMPLES: tuple[Body, ...] = (
    OrderCreated(
        order_id=ORDER,
        customer_id="customer-1",
        items=[
            Item(product_id="SKU-1", quantity=2, unit_price_minor=1250),
            Item(product_id="amount", quantity=1, unit_price_minor=499, tracked=False),
        ],
        total_minor=2999,
        currency="EUR",
        shipping_address="Hauptstrasse 1, Wien, AT",
        created_at=AT,
    ),
    OrderCancel(order_id=ORDER, reason="changed my mind"),
    OrderReviewed(order_id=ORDER, approved=True, reviewed_by="eve"),
    OrderOperate(
        order_id=ORDER, action="retry", expected_version=7, operator="eve", reason="gateway is back"
    ),
    OrderStatusChanged(
        order_id=ORDER,
        status="CANCELLED",
        reason="shipping_refused",
        saga_version=7,
        created_at=AT,
        held=True,
    ),
    PaymentRequested(order_id=ORDER, amount_minor=2999, currency="EUR", not_after=AT),
    PaymentRefund(order_id=ORDER, amount_minor=2999, currency="EUR", charge_id=COMMAND),
    PaymentResult(
        order_id=ORDER,
        command_id=COMMAND,
        operation="charge",
        outcome="RETRYING",
        reason="gateway_timeout",
        due_at=AT,
    ),
    InventoryRequested(order_id=ORDER, lines=[StockLine(sku="SKU-1", quantity=2)], not_after=AT),
    InventoryRelease(order_id=ORDER),
    InventoryCommit(order_id=ORDER),
    InventoryResult(
        order_id=ORDER,
        command_id=COMMAND,
        operation="reserve",
        outcome="OUT_OF_STOCK",
        reason="out_of_stock:SKU-1",
        state_version=1,
    ),
    StockLow(sku="SKU-1", available=9, level="critical", restocked=200),
    ShippingRequested(order_id=ORDER, address="Hauptstrasse 1, Wien, AT", not_after=AT),
    ShippingCancel(order_id=ORDER),
    ShippingResult(
        order_id=ORDER,
        command_id=COMMAND,
        operation="ship",
        outcome="OK",
        shipment_id=EVENT,
        state_version=1,
    ),
    ChaosInjected(
        rule_id="slow-payment",
        fault="delay",
        worker="payment-1",
        place="payment.requested",
        hits=3,
        at=AT,
        rule_version=17,
    ),
    ApiRateLimited(client="203.0.113.7", limit_per_min=100, at=AT),
)


def record_of(body: Body) -> Output:
    """Return the record that the platform sends for a sample."""
    topic = CATALOGUE[body.TOPICS[0]]
    return emit(CAUSE, topic, body, event_id=EVENT, now=AT, source="/symphony/golden")


def golden_of(body: Body) -> dict[str, Any]:
    """Return the content of a sample's golden file."""
    record = record_of(body)
    assert record.key is not None
    assert record.value is not None
    return {
        "topic": record.topic,
        "key": record.key.decode(),
        "headers": [[name, value.decode()] for name, value in record.headers],
        "value": record.value.decode(),
    }


def path_of(body: Body) -> Path:
    """Return where a sample's golden file is."""
    return GOLDEN / f"{body.ce_type()}.json"


def main() -> int:
    """Write the golden files that are missing."""
    GOLDEN.mkdir(exist_ok=True)
    for body in SAMPLES:
        path = path_of(body)
        if not path.exists():
            path.write_text(json.dumps(golden_of(body), indent=2) + "\n", encoding="utf-8")
            sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
