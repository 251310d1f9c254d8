"""What the auditor expects of the platform, written down here a second time and on purpose.

An auditor that took these facts from the platform's own code would share its mistakes.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

FINAL = ("COMPLETED", "CANCELLED", "REJECTED")
PARKED = "PARKED"

CREATED, CANCEL, STATUS_CHANGED = "order.created", "order.cancel", "order.status_changed"
OPERATE, REVIEWED = "order.operate", "order.reviewed"
STOCK_LOW = "stock.low"
BARRIER_TYPE = "barrier.v1"

#: Consumer to the topics it reads; its group is `<namespace>-<role>`.
CONSUMERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "orchestrator": (
            CREATED,
            CANCEL,
            OPERATE,
            REVIEWED,
            "payment.result",
            "inventory.result",
            "shipping.result",
        ),
        "payment": ("payment.requested", "payment.refund"),
        "payment-canary": ("payment.requested.canary",),
        "inventory": ("inventory.requested", "inventory.release", "inventory.commit"),
        "shipping": ("shipping.requested", "shipping.cancel"),
    }
)
#: Consumers that need not run. Their topics must be read to the end, but no barrier is awaited.
OPTIONAL_CONSUMERS = frozenset({"payment-canary"})
#: Reads what customers and operators are told of; judged where its sink keeps a book.
NOTIFIER = "notification"
NOTIFIED = (
    CREATED,
    REVIEWED,
    CANCEL,
    "payment.result",
    "inventory.result",
    "shipping.result",
    STATUS_CHANGED,
    STOCK_LOW,
)
#: Of which statuses and replies somebody is told (topic, operation, outcome); the notifier passes
#: the others over. What a refund or a called back shipment is told of depends on there having been
#: one; no inbox row is asked for.
TOLD_STATUSES = (*FINAL, PARKED)
TOLD_REPLIES = (
    ("payment.result", "charge", "OK"),
    ("payment.result", "charge", "DECLINED"),
    ("inventory.result", "reserve", "OUT_OF_STOCK"),
    ("shipping.result", "ship", "OK"),
    ("shipping.result", "ship", "REFUSED"),
)
#: Counts what service levels are judged by; judged where such a worker ever ran. Most changes of
#: status say nothing to it, and it leaves no inbox row of them.
COUNTER, LETTER_COUNTER = "slo", "slo-letters"
COUNTED = (STATUS_CHANGED,)
COUNTED_STATUSES = (*FINAL, PARKED, "REVIEW")
#: Reasons of an order's end that are an answer; every other one is a failure of the platform.
BUSINESS_REASONS = (
    "",
    "customer",
    "operator",
    "payment_declined",
    "out_of_stock",
    "shipping_refused",
    "fraud",
)
COMPLETION_MAX_S = 2.0
#: An event from further in the future counts as of the time at which the broker took it.
SKEW_MAX_S = 5.0
#: Widths of panes, and how long the longest window is that is merged from them, at time scale 1.
FINE_S, COARSE_S, FINE_WINDOW_S, COARSE_WINDOW_S = 10, 300, 1_800.0, 259_200.0
COARSE_S_MIN, TIME_SCALE_MAX = 2, 600.0
#: How the end of an order is told.
TOLD_ENDS: Mapping[str, str] = MappingProxyType(
    {
        "COMPLETED": "order_completed",
        "CANCELLED": "order_cancelled",
        "REJECTED": "order_rejected",
    }
)
#: Kinds that are told again of one subject, of which each occurrence is told once: a level after
#: each restock, a rule each time it is laid down, a client each day.
RECURRING = ("stock_low", "stock_critical", "chaos_injected", "rate_limited")
#: How a level of stock is told.
TOLD_LEVELS: Mapping[str, str] = MappingProxyType(
    {"low": "stock_low", "critical": "stock_critical"}
)
RETRY_TIERS = ("retry.1s", "retry.5s", "retry.30s")
#: Consumers that know a record by nothing but where it stands.
RAW_CONSUMERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {f"dlq-{tier}": (tier,) for tier in RETRY_TIERS}
)
INDEX_CONSUMER = "dlq-index"
ROLE_OF_RAW = "dlq"
DEAD_LETTER_SUFFIX = ".dlt"

#: Told by the laboratory and the API, decided by nobody: only their dead letters are judged.
NOTICES = ("chaos.injected", "api.rate_limited")
FAMILIES = ("order.", "payment.", "inventory.", "shipping.", "stock.", "retry.", *NOTICES)
SAGA_TABLE = ("orchestrator", "sagas")
PANE_TABLE = ("slo", "slo_panes")
IDEMPOTENCY_TABLES: Mapping[str, str] = MappingProxyType(
    {
        "payment": "payment_idempotency",
        "payment-canary": "payment_idempotency",
        "inventory": "inventory_idempotency",
        "shipping": "shipping_idempotency",
    }
)

#: Legal steps of an order's status under the saga `order.v1`; "" is the beginning.
EDGES = frozenset(
    {
        ("", "PAYMENT_PENDING"),
        ("", "REVIEW"),
        ("", "CANCELLED"),
        ("REVIEW", "PAYMENT_PENDING"),
        ("REVIEW", "REJECTED"),
        ("REVIEW", "CANCELLED"),
        ("PAYMENT_PENDING", "INVENTORY_PENDING"),
        ("PAYMENT_PENDING", "CANCELLED"),
        ("PAYMENT_PENDING", "COMPENSATING"),
        ("PAYMENT_PENDING", "PARKED"),
        ("INVENTORY_PENDING", "SHIPPING_PENDING"),
        ("INVENTORY_PENDING", "COMPENSATING"),
        ("INVENTORY_PENDING", "PARKED"),
        ("SHIPPING_PENDING", "COMMIT_PENDING"),
        ("SHIPPING_PENDING", "COMPENSATING"),
        ("SHIPPING_PENDING", "PARKED"),
        ("COMMIT_PENDING", "COMPLETED"),
        ("COMMIT_PENDING", "PARKED"),
        ("COMPENSATING", "CANCELLED"),
        ("COMPENSATING", "PARKED"),
        ("PARKED", "PAYMENT_PENDING"),
        ("PARKED", "INVENTORY_PENDING"),
        ("PARKED", "SHIPPING_PENDING"),
        ("PARKED", "COMMIT_PENDING"),
        ("PARKED", "COMPLETED"),
        ("PARKED", "CANCELLED"),
        ("PARKED", "COMPENSATING"),
    }
)

#: What an operator did to a saga, in its history, and the act that must stand behind it; "": any.
OPERATIONS: Mapping[str, str] = MappingProxyType(
    {
        "operator_retried": "saga.retry",
        "operator_resumed": "saga.resume",
        "operator_compensated": "saga.compensate",
        "operator_skipped": "saga.skip",
        "operator_refused": "",
    }
)
SKIPPED, TURNED_BACK = "operator_skipped", "operator_compensated"
#: What may be skipped: compensations, and the step after the pivot.
SKIPPABLE = ("refund", "release", "cancel", "commit")

#: How an order of each class of the load must end: status and reason.
EXPECTED_ENDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "happy": ("COMPLETED", ""),
        "declined": ("CANCELLED", "payment_declined"),
        "out_of_stock": ("CANCELLED", "out_of_stock"),
        "shipping_refused": ("CANCELLED", "shipping_refused"),
        "cancelled": ("CANCELLED", "customer"),
    }
)


def consumers(*, notified: bool, counted: bool = False) -> Mapping[str, tuple[str, ...]]:
    """Return the consumers of messages, with those of notifications and of service levels where
    there are such."""
    return {
        **CONSUMERS,
        **({NOTIFIER: NOTIFIED} if notified else {}),
        **({COUNTER: COUNTED} if counted else {}),
    }


#: States of an inbox row.
DONE, INTENT, RETRYING, PARKED_ROW, TICKED = range(5)
TICK_TOPIC = "tick"
