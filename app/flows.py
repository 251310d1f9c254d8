"""Which role sends and receives which topics: the map that the AsyncAPI document is drawn from.

A test compares it with what each role's agents subscribe to and what they name. What every consumer
sends beside this (retry tiers, dead letters) follows from the catalogue and is not listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from app import topics
from app.topics import TopicSpec


class Flow(NamedTuple):
    """The topics of one role; `by_outbox`: what it sends stands in the outbox until the relay."""

    receives: tuple[TopicSpec, ...] = ()
    sends: tuple[TopicSpec, ...] = ()
    by_outbox: bool = False


OUTBOX = (
    topics.ORDER_CREATED,
    topics.ORDER_CANCEL,
    topics.ORDER_REVIEWED,
    topics.ORDER_OPERATE,
)
"""What the API writes; the relay publishes it."""

FLOWS: Mapping[str, Flow] = MappingProxyType(
    {
        "web": Flow(sends=OUTBOX, by_outbox=True),
        "relay": Flow(sends=OUTBOX),
        "orchestrator": Flow(
            receives=(
                *OUTBOX,
                topics.PAYMENT_RESULT,
                topics.INVENTORY_RESULT,
                topics.SHIPPING_RESULT,
            ),
            sends=(
                topics.PAYMENT_REQUESTED,
                topics.PAYMENT_REQUESTED_CANARY,
                topics.PAYMENT_REFUND,
                topics.INVENTORY_REQUESTED,
                topics.INVENTORY_RELEASE,
                topics.INVENTORY_COMMIT,
                topics.SHIPPING_REQUESTED,
                topics.SHIPPING_CANCEL,
                topics.ORDER_STATUS_CHANGED,
            ),
        ),
        "payment": Flow(
            receives=(topics.PAYMENT_REQUESTED, topics.PAYMENT_REFUND),
            sends=(topics.PAYMENT_RESULT,),
        ),
        "payment-canary": Flow(
            receives=(topics.PAYMENT_REQUESTED_CANARY,),
            sends=(topics.PAYMENT_RESULT, topics.PAYMENT_REQUESTED),
        ),
        "inventory": Flow(
            receives=(
                topics.INVENTORY_REQUESTED,
                topics.INVENTORY_RELEASE,
                topics.INVENTORY_COMMIT,
            ),
            sends=(topics.INVENTORY_RESULT, topics.STOCK_LOW),
        ),
        "shipping": Flow(
            receives=(topics.SHIPPING_REQUESTED, topics.SHIPPING_CANCEL),
            sends=(topics.SHIPPING_RESULT,),
        ),
        "notification": Flow(
            receives=(
                topics.ORDER_CREATED,
                topics.ORDER_REVIEWED,
                topics.ORDER_CANCEL,
                topics.PAYMENT_RESULT,
                topics.INVENTORY_RESULT,
                topics.SHIPPING_RESULT,
                topics.ORDER_STATUS_CHANGED,
                topics.STOCK_LOW,
                topics.CHAOS_INJECTED,
                topics.API_RATE_LIMITED,
            ),
            sends=(),
        ),
        "slo": Flow(receives=(topics.ORDER_STATUS_CHANGED, *topics.DEAD_LETTER_TOPICS.values())),
        "dlq": Flow(
            receives=(*topics.RETRY_TIERS.values(), *topics.DEAD_LETTER_TOPICS.values()),
            sends=tuple(topics.MESSAGE_TOPICS.values()),
        ),
    }
)

WORKERS = "worker"
"""Any worker of a lab, whatever its role."""

CONTROL: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = MappingProxyType(
    {
        topics.CHAOS_RULES.name: (("web",), (WORKERS,)),
        topics.CHAOS_ACKS.name: ((WORKERS,), ("web",)),
        topics.CANARY_CONFIG.name: (("web",), ("orchestrator", "payment-canary")),
        topics.CANARY_ACKS.name: (("orchestrator", "payment-canary"), ("web",)),
    }
)
"""Who sends and who receives a control topic; nobody reads one as a member of a group."""
