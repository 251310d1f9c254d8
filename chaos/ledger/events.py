"""Load of the rebalance ledger: numbered events at a rate, each counted when the broker has it.

Guarantees: event n has key n and lands on partition n % partitions, once, in number order per
partition (idempotent producer); `acked` holds exactly the numbers the broker acknowledged. A number
that failed or is still unanswered is *unknown*: it may be in the topic or not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from confluent_kafka import KafkaError, Message, Producer

TICK_S = 0.01
MESSAGE_TIMEOUT_MS = 300_000


class Numbered(NamedTuple):
    """Wire form of event `seq`."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


class Load:
    """Open-model producer thread: it keeps its rate whatever the workers do."""

    def __init__(
        self, bootstrap: str, topic: str, partitions: int, encode: Callable[[int], Numbered]
    ) -> None:
        self._topic, self._partitions, self._encode = topic, partitions, encode
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 5,
                "message.timeout.ms": MESSAGE_TIMEOUT_MS,
                "queue.buffering.max.messages": 1_000_000,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )
        self.sent = 0
        self.acked: set[int] = set()
        self.failed: set[int] = set()
        self._rate_per_s = 0.0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"load-{topic}", daemon=True)
        self._thread.start()

    def rate(self, per_s: float) -> None:
        """Set the rate; 0 pauses."""
        self._rate_per_s = per_s

    def burst(self, count: int) -> None:
        """Send `count` events at once; returns when they are queued, not when acknowledged."""
        with self._lock:
            self._send(count)

    def flush(self, timeout_s: float) -> None:
        """Wait until every event sent was answered. Raises TimeoutError when some were not."""
        if self._producer.flush(timeout_s):
            raise TimeoutError(f"{self.sent - len(self.acked)} events unanswered")

    def close(self) -> None:
        """Stop the thread. Unanswered events stay unknown."""
        self._ended.set()
        self._thread.join(5)

    def _run(self) -> None:
        last, owed = monotonic(), 0.0
        while not self._ended.wait(TICK_S):
            now = monotonic()
            owed = owed + (now - last) * self._rate_per_s if self._rate_per_s else 0.0
            last = now
            with self._lock:
                self._send(int(owed))
            owed -= int(owed)

    def _send(self, count: int) -> None:
        for _ in range(count):
            seq = self.sent
            event = self._encode(seq)
            self._producer.produce(
                self._topic,
                key=event.key,
                value=event.value,
                headers=event.headers,
                partition=seq % self._partitions,
                on_delivery=self._answered(seq),
            )
            self.sent += 1
        self._producer.poll(0)

    def _answered(self, seq: int) -> Callable[[KafkaError | None, Message], None]:
        def record(error: KafkaError | None, _: Message) -> None:
            (self.failed if error else self.acked).add(seq)

        return record
