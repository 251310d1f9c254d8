"""Reading topics just after the broker has started: it does not lead its partitions yet."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from chaos import records

pytestmark = pytest.mark.unit


class Broker:
    """A consumer whose broker gives these errors, then the ends."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)

    def get_watermark_offsets(self, _place: TopicPartition, timeout: float) -> tuple[int, int]:
        if self.codes:
            raise KafkaException(KafkaError(self.codes.pop(0)))
        return 3, 7


def test_a_broker_that_does_not_lead_yet_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer passes within moments; until then nothing is read."""
    monkeypatch.setattr(records, "LOOK_S", 0.0)
    consumer: Any = Broker(KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)
    assert records._ends(consumer, TopicPartition("t", 0)) == (3, 7)


def test_any_other_error_is_told_at_once() -> None:
    """Waiting would not help."""
    consumer: Any = Broker(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(KafkaException):
        records._ends(consumer, TopicPartition("t", 0))


def test_it_is_not_asked_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the usual patience the error is told."""
    monkeypatch.setattr(records, "TIMEOUT_S", -1.0)
    consumer: Any = Broker(*[KafkaError.NOT_LEADER_FOR_PARTITION] * 3)
    with pytest.raises(KafkaException):
        records._ends(consumer, TopicPartition("t", 0))
