"""One poll is one Faust event.

Stock Faust walks every record through conductor, stream and acknowledgement (60 to 136 us each).
Here one event carries all records of a poll for one channel; assignment, flow control, recovery
and streams stay Faust's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiokafka.structs import ConsumerRecord
from faust.topics import Topic
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from app.delivery.positions import Span

Records = dict[TP, Sequence[ConsumerRecord]]


class BatchMessage(ConsumerMessage):
    """All records of one poll for one channel: value = {partition: records}."""

    __slots__ = ("epoch", "spans")

    spans: list[Span]
    epoch: int

    def on_final_ack(self, consumer: Any) -> bool:
        """Replaces ConsumerMessage.on_final_ack: an ack says nothing about the watermark (W2).

        Faust acknowledges events that it skips during a rebalance (streams.py:1187).
        Red without it: tests/delivery/test_positions.py, the rebalance ledger.
        """
        self.acked = True  # type: ignore[misc]  # Faust declares the slot in C
        consumer._unacked_messages.discard(self)
        return True


class BatchTopic(Topic):
    """Channel whose events are whole polls, with a look-ahead of one poll."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.decode = self._decode_batch  # the conductor localises the attribute

    async def _decode_batch(self, message: Any, *, propagate: bool = False) -> Any:
        """Replaces Topic.decode: records stay raw bytes until the step decodes them.

        Stock decoding acknowledges an undecodable record and then throws into the stream.
        """
        return self._create_event(None, message.value, None, message=message)

    _queue: Any

    def get_topic_name(self) -> str:
        """Replaces Topic.get_topic_name, which raises for several topics: `faust agents` asks."""
        return " ".join(self.topics)

    @property
    def queue(self) -> Any:
        """Replaces Channel.queue: Faust ignores `maxsize` after a clone and buffers 4096."""
        if self._queue is None:
            self._queue = self.app.FlowControlQueue(maxsize=1, clear_on_resume=True)
        return self._queue
