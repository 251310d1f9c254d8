"""The message catalogue: every type that travels, by its CloudEvents type.

`decode`, `emit`, `encode`, `pack` and `unpack` are the whole interface to the wire; `CATALOGUE` is
what documents, golden files and topic declarations are generated from.
"""

from __future__ import annotations

from app.messages.barrier import Barrier
from app.messages.body import Body
from app.messages.envelope import (
    Cause,
    Decoded,
    Output,
    decode,
    emit,
    encode,
    pack,
    register,
    unpack,
)
from app.messages.inventory import (
    InventoryCommit,
    InventoryRelease,
    InventoryRequested,
    InventoryResult,
    StockLine,
    StockLow,
)
from app.messages.notices import ApiRateLimited, ChaosInjected
from app.messages.orders import (
    Item,
    OrderCancel,
    OrderCreated,
    OrderOperate,
    OrderReviewed,
    OrderStatusChanged,
)
from app.messages.payments import PaymentRefund, PaymentRequested, PaymentResult
from app.messages.shipping import ShippingCancel, ShippingRequested, ShippingResult

CATALOGUE: dict[str, type[Body]] = {
    body.ce_type(): body
    for body in (
        OrderCreated,
        OrderCancel,
        OrderReviewed,
        OrderOperate,
        OrderStatusChanged,
        PaymentRequested,
        PaymentRefund,
        PaymentResult,
        InventoryRequested,
        InventoryRelease,
        InventoryCommit,
        InventoryResult,
        StockLow,
        ShippingRequested,
        ShippingCancel,
        ShippingResult,
        ChaosInjected,
        ApiRateLimited,
    )
}

for _body in CATALOGUE.values():
    register(_body, _body.TOPICS)
register(Barrier, tuple({topic: None for body in CATALOGUE.values() for topic in body.TOPICS}))

__all__ = [
    "CATALOGUE",
    "ApiRateLimited",
    "Barrier",
    "Body",
    "Cause",
    "ChaosInjected",
    "Decoded",
    "InventoryCommit",
    "InventoryRelease",
    "InventoryRequested",
    "InventoryResult",
    "Item",
    "OrderCancel",
    "OrderCreated",
    "OrderOperate",
    "OrderReviewed",
    "OrderStatusChanged",
    "Output",
    "PaymentRefund",
    "PaymentRequested",
    "PaymentResult",
    "ShippingCancel",
    "ShippingRequested",
    "ShippingResult",
    "StockLine",
    "StockLow",
    "decode",
    "emit",
    "encode",
    "pack",
    "unpack",
]
