"""Faults on the way of messages: drop, duplicate, delay, corrupt, reorder.

Only messages of STRIKABLE topics are struck, never a barrier. Each passing is decided by its own
number: the delivery (retries, redrives) and how often the message has passed here before.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from app.messages import Barrier
from chaos.faults.kind import (
    STRIKABLE,
    UNSAFE_TO_LOSE,
    Base,
    Between,
    P,
    Params,
    Passing,
    Seen,
    passing,
    within,
)

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord

    from app.delivery import App
    from app.messages.envelope import Output
    from chaos.control.hits import Hits
    from chaos.control.rule import Rule

LOSSES = "losses"
"""Below the lab's directory: what was lost on purpose, one file a worker; the auditor reads it."""
FLIP = 0xFF
"""Flips every bit of a byte: of ASCII, as JSON begins, becomes what no UTF-8 text begins with."""


class _OnMessages(Base[P]):
    """What passes is counted, and struck when the rule says so."""

    def __init__(self, rule: Rule, hits: Hits, app: App) -> None:
        super().__init__(rule, hits, app)
        self._seen = Seen()

    def _strikes(self, one: Passing, times: int) -> bool:
        return self.hits.strikes(
            one.topic, one.key, one.delivery + times, event=one.event, type=one.type
        )

    @staticmethod
    def _exempt(one: Passing) -> bool:
        return one.topic not in STRIKABLE or one.type == Barrier.TYPE


class _Incoming(_OnMessages[P]):
    """Stands between the broker and a worker's consumers."""

    def _attach(self) -> None:
        self.app.taps.incoming = (*self.app.taps.incoming, self.read)

    def _detach(self) -> None:
        taps = self.app.taps
        taps.incoming = tuple(hook for hook in taps.incoming if hook != self.read)

    async def read(
        self, consumer: str, records: Sequence[ConsumerRecord]
    ) -> Sequence[ConsumerRecord]:
        """What the consumer gets instead."""
        raise NotImplementedError

    def _struck(self, record: ConsumerRecord) -> Passing | None:
        one = passing(record.topic, record.key, record.headers)
        if not self._exempt(one) and self._strikes(one, self._seen.times(one)):
            return one
        return None


class _Outgoing(_OnMessages[P]):
    """Stands between a worker and the broker."""

    def _attach(self) -> None:
        self.app.taps.outgoing = (*self.app.taps.outgoing, self.send)

    def _detach(self) -> None:
        taps = self.app.taps
        taps.outgoing = tuple(hook for hook in taps.outgoing if hook != self.send)

    async def send(self, output: Output) -> Sequence[Output]:
        """What is sent instead."""
        raise NotImplementedError


class LossParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`each_max`: so many deliveries of one message are lost in a worker at most."""

    each_max: Annotated[int, Meta(ge=1, le=3)] = 1


class Drop(_Incoming[LossParams]):
    """A delivery is lost on the way: the record is read and passed over.

    What nobody sends again is spared (UNSAFE_TO_LOSE, retried and re-driven messages). Every loss
    is written down first, for the auditor: see `losses_of`.
    """

    params = LossParams

    def __init__(self, rule: Rule, hits: Hits, app: App) -> None:
        super().__init__(rule, hits, app)
        self._file: IO[str] | None = None

    def _detach(self) -> None:
        super()._detach()
        if self._file is not None:
            self._file.close()
            self._file = None

    async def read(
        self, consumer: str, records: Sequence[ConsumerRecord]
    ) -> Sequence[ConsumerRecord]:
        """All but the lost ones."""
        return [record for record in records if not self._loses(consumer, record)]

    def _loses(self, consumer: str, record: ConsumerRecord) -> bool:
        one = passing(record.topic, record.key, record.headers)
        spared = one.topic in UNSAFE_TO_LOSE and not self.rule.unsafe
        if self._exempt(one) or spared or one.delivery:
            return False
        times = self._seen.times(one)
        if times >= self.p.each_max or not self._strikes(one, times):
            return False
        self._write(consumer, record)
        return True

    def _write(self, consumer: str, record: ConsumerRecord) -> None:
        if self._file is None:
            path = losses_of(Path(self.app.settings.lab_dir), self.app.settings.worker_id)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a")
        line = {
            "consumer": consumer,
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "rule": self.rule.id,
            "at_s": time.time(),
        }
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


def losses_of(lab_dir: Path, worker: str) -> Path:
    """Where a worker's deliberate losses stand, one JSON object a line: consumer, topic, partition,
    offset, rule, at_s."""
    return lab_dir / LOSSES / f"{worker}.jsonl"


class CopiesParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`copies`: how many are sent besides the one."""

    copies: Annotated[int, Meta(ge=1, le=5)] = 1


class Duplicate(_Outgoing[CopiesParams]):
    """A message is sent again at once: the same id, the same bytes."""

    params = CopiesParams

    async def send(self, output: Output) -> Sequence[Output]:
        """The message and its copies."""
        one = passing(output.topic, output.key, output.headers)
        if self._exempt(one) or not self._strikes(one, self._seen.times(one)):
            return (output,)
        return (output,) * (1 + self.p.copies)


class Delay(_Incoming[Between]):
    """Messages come late: their batch waits until the latest of them may be read."""

    params = Between

    async def read(
        self, consumer: str, records: Sequence[ConsumerRecord]
    ) -> Sequence[ConsumerRecord]:
        """The same, later."""
        struck = [one for record in records if (one := self._struck(record)) is not None]
        if struck:
            await self.hold(max(self._delay_ms(one) for one in struck))
        return records

    def _delay_ms(self, one: Passing) -> float:
        luck = self.hits.luck(one.topic, one.key, one.delivery, event=one.event)
        return within(self.p.min_ms, self.p.max_ms, luck)


class CorruptParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`bytes`: so many of the value are flipped, the first one among them."""

    bytes: Annotated[int, Meta(ge=1, le=64)] = 3


class Corrupt(_Outgoing[CorruptParams]):
    """A message's value is damaged on its way out: its reader must dead-letter it.

    Struck is only what is sent for the first time and will be sent again when no answer comes.
    """

    params = CorruptParams

    async def send(self, output: Output) -> Sequence[Output]:
        """The message, or what is left of it."""
        one = passing(output.topic, output.key, output.headers)
        spared = one.topic in UNSAFE_TO_LOSE and not self.rule.unsafe
        if self._exempt(one) or spared or one.delivery or not output.value:
            return (output,)
        if self._seen.times(one) or not self._strikes(one, 0):
            return (output,)
        damaged = bytearray(output.value)
        for number in range(self.p.bytes):
            luck = self.hits.luck(one.topic, one.key, number, event=one.event)
            damaged[int(luck * len(damaged)) if number else 0] ^= FLIP
        return (msgspec.structs.replace(output, value=bytes(damaged)),)


class Reorder(_Incoming[Params]):
    """Struck records of one poll change places, across keys and of the same key."""

    params = Params

    async def read(
        self, consumer: str, records: Sequence[ConsumerRecord]
    ) -> Sequence[ConsumerRecord]:
        """The same records in another order."""
        struck = [
            (place, one)
            for place, record in enumerate(records)
            if (one := self._struck(record)) is not None
        ]
        moved = sorted(struck, key=lambda item: self._luck(item[1]), reverse=True)
        ordered = list(records)
        for (place, _), (origin, _) in zip(struck, moved, strict=True):
            ordered[place] = records[origin]
        return ordered

    def _luck(self, one: Passing) -> float:
        return self.hits.luck(one.topic, one.key, one.delivery, event=one.event)
