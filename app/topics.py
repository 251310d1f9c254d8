"""Every topic once: its key, its message types, how long it keeps them.

All keyed saga topics have the same partition count, fixed at creation: a retried, dead-lettered or
derived record keeps its key and its partition. `symphony topics apply` creates what stands here
before any worker starts.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from app.messages import CATALOGUE as MESSAGES
from app.messages import Body

DAY_S = 24 * 60 * 60
ORDER_RETENTION_S = 7 * DAY_S
DEAD_LETTER_RETENTION_S = 30 * DAY_S

BATCH_BYTES_MAX = 1024 * 1024
"""Largest record batch of an ordinary topic, so the largest record as well."""
FAILURE_BYTES_MAX = 128 * 1024
"""What a record may grow by when it fails: our headers, and foreign header names made printable."""
RETRY_BATCH_BYTES_MAX = BATCH_BYTES_MAX + FAILURE_BYTES_MAX
DEAD_LETTER_BATCH_BYTES_MAX = RETRY_BATCH_BYTES_MAX + FAILURE_BYTES_MAX
"""A record that fails on a retry tier grows once more."""
FETCH_BYTES_MAX = 2 * 1024 * 1024
"""What a consumer asks for per partition: above every limit, as aiokafka (0.14) takes a batch that
was cut off for one that it can never read."""

DLT_SUFFIX = ".dlt"
RETRY_TIERS_S = (1, 5, 30)

_FOREIGN_DLT = re.compile(r"(?:\.dlt|-dlt|\.DLT|-DLT|\.dlq|-dlq)$")

_OLD_STEMS = {
    "payment": "payment.requested",
    "inventory": "inventory.requested",
    "shipping": "shipping.requested",
    "order": "order.created",
    "order.placed": "order.created",
}
"""Dead-letter topics of older clients, by what stands before their suffix."""


class TopicSpec(NamedTuple):
    """One topic; `partitions` None means the common count of all keyed saga topics.

    `bytes_max` bounds a record batch and with it each record.
    """

    name: str
    key: str
    bodies: tuple[type[Body], ...]
    retention_s: int | None
    cleanup: Literal["delete", "compact"] = "delete"
    partitions: int | None = None
    bytes_max: int = BATCH_BYTES_MAX

    def partition_count(self, keyed: int) -> int:
        """Return how many partitions the topic has when keyed saga topics have `keyed`."""
        return keyed if self.partitions is None else self.partitions

    def config(self) -> dict[str, str]:
        """Return the topic's configuration as Kafka names it.

        The broker unpacks what producers compress: a worker needs no codecs, and a small batch
        cannot hold a record that is too large for its dead letter. Retention counts from the
        broker's time: a producer's old timestamp must not let a record vanish unread.
        """
        config: dict[str, str] = {
            "cleanup.policy": self.cleanup,
            "compression.type": "uncompressed",
            "max.message.bytes": str(self.bytes_max),
        }
        if self.retention_s is not None:
            config["message.timestamp.type"] = "LogAppendTime"
            config["retention.ms"] = str(self.retention_s * 1000)
        return config


def dlt_of(topic: str) -> str:
    """Return the name of the dead-letter topic of `topic`; a dead-letter topic is its own."""
    return topic if topic.endswith(DLT_SUFFIX) else topic + DLT_SUFFIX


def is_dead_letter(topic: str) -> bool:
    """Tell whether a name is a dead-letter topic's, in our spelling or one of the older ones."""
    return _FOREIGN_DLT.search(topic) is not None


def dead_letter_topic(name: str) -> str | None:
    """Return the dead-letter topic that `name` means: ours, an older spelling (`-dlt`, `.DLT`,
    `payment.dlq`), or the topic whose dead letters are meant; None when there is none.
    """
    stem = _FOREIGN_DLT.sub("", name)
    return next(
        (
            dlt_of(one)
            for one in (stem, _OLD_STEMS.get(stem, ""))
            if dlt_of(one) in DEAD_LETTER_TOPICS
        ),
        None,
    )


def retry_tier(delay_s: int) -> TopicSpec:
    """Return the retry tier that delays by `delay_s` seconds; raises KeyError for a delay without a
    tier.
    """
    return RETRY_TIERS[delay_s]


def changelog_of(namespace: str, role: str, table: str) -> TopicSpec:
    """Return the changelog topic of a table that `role` owns (the name Faust gives it)."""
    return TopicSpec(f"{namespace}-{role}-{table}-changelog", "table key", (), None, "compact")


def _declared() -> dict[str, TopicSpec]:
    bodies: dict[str, list[type[Body]]] = {}
    for body in MESSAGES.values():
        for name in body.TOPICS:
            bodies.setdefault(name, []).append(body)
    return {
        name: TopicSpec(name, types[0].KEY, tuple(types), ORDER_RETENTION_S)
        for name, types in bodies.items()
    }


MESSAGE_TOPICS: dict[str, TopicSpec] = _declared()
RETRY_TIERS: dict[int, TopicSpec] = {
    delay_s: TopicSpec(
        f"retry.{delay_s}s", "order_id", (), ORDER_RETENTION_S, bytes_max=RETRY_BATCH_BYTES_MAX
    )
    for delay_s in RETRY_TIERS_S
}
DEAD_LETTER_TOPICS: dict[str, TopicSpec] = {
    dlt_of(name): TopicSpec(
        dlt_of(name), spec.key, (), DEAD_LETTER_RETENTION_S, bytes_max=DEAD_LETTER_BATCH_BYTES_MAX
    )
    for name, spec in {**MESSAGE_TOPICS, **{t.name: t for t in RETRY_TIERS.values()}}.items()
}
CONTROL_TOPICS: dict[str, TopicSpec] = {
    spec.name: spec
    for spec in (
        TopicSpec("chaos.rules", "rule id", (), None, "compact", partitions=1),
        TopicSpec("chaos.acks", "worker id", (), DAY_S, partitions=1),
        TopicSpec("canary.config", "canary", (), None, "compact", partitions=1),
        TopicSpec("canary.acks", "worker id", (), DAY_S, partitions=1),
    )
}
"""What changes running workers, and which worker has it in force: read by every worker whole,
without a consumer group."""
CATALOGUE: dict[str, TopicSpec] = {
    **MESSAGE_TOPICS,
    **CONTROL_TOPICS,
    **{spec.name: spec for spec in RETRY_TIERS.values()},
    **DEAD_LETTER_TOPICS,
}

ORDER_CREATED = CATALOGUE["order.created"]
ORDER_CANCEL = CATALOGUE["order.cancel"]
ORDER_REVIEWED = CATALOGUE["order.reviewed"]
ORDER_OPERATE = CATALOGUE["order.operate"]
ORDER_STATUS_CHANGED = CATALOGUE["order.status_changed"]
PAYMENT_REQUESTED = CATALOGUE["payment.requested"]
PAYMENT_REQUESTED_CANARY = CATALOGUE["payment.requested.canary"]
PAYMENT_REFUND = CATALOGUE["payment.refund"]
PAYMENT_RESULT = CATALOGUE["payment.result"]
INVENTORY_REQUESTED = CATALOGUE["inventory.requested"]
INVENTORY_RELEASE = CATALOGUE["inventory.release"]
INVENTORY_COMMIT = CATALOGUE["inventory.commit"]
INVENTORY_RESULT = CATALOGUE["inventory.result"]
SHIPPING_REQUESTED = CATALOGUE["shipping.requested"]
SHIPPING_CANCEL = CATALOGUE["shipping.cancel"]
SHIPPING_RESULT = CATALOGUE["shipping.result"]
STOCK_LOW = CATALOGUE["stock.low"]
CHAOS_INJECTED = CATALOGUE["chaos.injected"]
API_RATE_LIMITED = CATALOGUE["api.rate_limited"]
CHAOS_RULES = CATALOGUE["chaos.rules"]
CHAOS_ACKS = CATALOGUE["chaos.acks"]
CANARY_CONFIG = CATALOGUE["canary.config"]
CANARY_ACKS = CATALOGUE["canary.acks"]
