"""Reading topics: from where, to where, and just after the broker has started."""

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


class Message:
    """What a consumer hands out about partition `t[0]`."""

    def __init__(self, offset: int = -1, code: int | None = None) -> None:
        self._offset, self._code = offset, code

    def error(self) -> KafkaError | None:
        return None if self._code is None else KafkaError(self._code)

    def offset(self) -> int:
        return self._offset

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return 0

    def key(self) -> bytes:
        return b"k"

    def value(self) -> bytes:
        return b"v"

    def headers(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return (1, 2)


def test_an_error_about_a_partition_is_not_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after it is read, up to the end that the broker tells."""
    script = [Message(3), Message(code=KafkaError._TRANSPORT), Message(4),
              Message(7, KafkaError._PARTITION_EOF)]  # fmt: skip

    class Scripted(Broker):
        assign = close = staticmethod(lambda *_: None)

        def consume(self, _count: int, _timeout_s: float) -> list[Message]:
            return [script.pop(0)]

    monkeypatch.setattr(records, "Consumer", lambda _settings: Scripted())
    monkeypatch.setattr(records, "partitions", lambda *_: [("t", 0)])
    assert [one.offset for one in records.read("nowhere", ["t"])] == [3, 4]


def test_what_came_before_a_time_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading begins where the broker says; a partition without newer records is not read."""
    assigned: list[tuple[str, int, int]] = []

    class Timed(Broker):
        close = staticmethod(lambda *_: None)

        def offsets_for_times(
            self, asked: list[TopicPartition], timeout: float
        ) -> list[TopicPartition]:
            assert [one.offset for one in asked] == [1_000]
            return [TopicPartition("t", one.partition, 5 - 6 * one.partition) for one in asked]

        def assign(self, places: list[TopicPartition]) -> None:
            assigned.extend((one.topic, one.partition, one.offset) for one in places)

        def consume(self, _count: int, _timeout_s: float) -> list[Message]:
            return [Message(5), Message(7, KafkaError._PARTITION_EOF)]

    monkeypatch.setattr(records, "Consumer", lambda _settings: Timed())
    monkeypatch.setattr(records, "partitions", lambda *_: [("t", 0), ("t", 1)])
    assert [one.offset for one in records.read("nowhere", ["t"], since_ms=1_000)] == [5]
    assert assigned == [("t", 0, 5)]


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
