"""Faults in the handling of messages: error, timeout, slow, crash.

They stand at failpoints of the delivery core. `error` and `timeout` strike inside the transaction
of the batch, which the core then splits until the struck message stands alone and moves on, by
retry tiers, to the dead letters. A message that is tried again is decided anew.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from app import failpoints
from app.errors import Indefinite, Poison, SymphonyError, catalogue
from app.messages import Barrier
from app.roles import ROLES
from chaos.faults.crash import EXIT_CODE
from chaos.faults.kind import (
    HOLD_MAX_MS,
    STRIKABLE,
    Base,
    Between,
    P,
    Params,
    Seen,
    passing,
    within,
)

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord

    from app.delivery import App, Event
    from app.failpoints import Hit
    from chaos.control.hits import Hits
    from chaos.control.rule import Rule

_BEFORE, _INSIDE = "delivery.before_transaction", "delivery.in_transaction"
_POISON_REASON = "bad_command"
CODES = {
    cls.code: cls
    for cls in catalogue()
    if cls.code
    in {
        "definite",
        "indefinite",
        "poison",
        "gateway_unavailable",
        "gateway_timeout",
        "breaker_open",
        "overtaken",
    }
}
"""Errors that are an event's own failure; the world's (database, broker) have kinds of theirs."""


class _Handling(Base[P]):
    """Decides once about each message that a handler of this worker is about to see."""

    def __init__(self, rule: Rule, hits: Hits, app: App) -> None:
        super().__init__(rule, hits, app)
        self._seen = Seen()
        # by consumer, because failpoints are common to all roles of a process
        self._read: dict[str, dict[int, ConsumerRecord]] = {}
        self._victims: dict[int, ConsumerRecord] = {}

    def _attach(self) -> None:
        self.app.taps.incoming = (*self.app.taps.incoming, self._note)
        failpoints.add(_BEFORE, self._before)
        failpoints.add(_INSIDE, self._inside)

    def _detach(self) -> None:
        taps = self.app.taps
        taps.incoming = tuple(hook for hook in taps.incoming if hook != self._note)
        failpoints.discard(_BEFORE, self._before)
        failpoints.discard(_INSIDE, self._inside)
        self._read.clear()
        self._victims.clear()

    async def _note(
        self, consumer: str, records: Sequence[ConsumerRecord]
    ) -> Sequence[ConsumerRecord]:
        for gone in self._read.get(consumer, ()):
            self._victims.pop(gone, None)
        self._read[consumer] = {id(record): record for record in records}
        return records

    async def _before(self, hit: Hit) -> None:
        struck = [event for event in hit.events if self._strikes(event)]
        self._victims.update((id(event.record), event.record) for event in struck)
        if struck:
            await self._struck(struck)

    async def _inside(self, hit: Hit) -> None:
        for event in hit.events:
            if id(event.record) in self._victims:
                self._fail(event)

    def _strikes(self, event: Event) -> bool:
        if event.topic not in STRIKABLE or event.type == Barrier.TYPE:
            return False
        if not any(id(event.record) in records for records in self._read.values()):
            return False
        one = passing(event.topic, event.key, event.record.headers)
        attempt = one.delivery + self._seen.times(one)
        return self.hits.strikes(
            event.topic, event.key, attempt, event=event.event_id, type=event.type
        )

    async def _struck(self, events: Sequence[Event]) -> None:
        """Before the transaction of a batch that holds `events`."""

    def _fail(self, event: Event) -> None:
        """Inside the transaction of a batch that holds a struck event."""


class ErrorParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`code`: which error, as in docs/reference/errors.md."""

    code: str = Indefinite.code

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise ValueError(f"unknown code {self.code!r}; known: {', '.join(sorted(CODES))}")


class Error(_Handling[ErrorParams]):
    """The handler raises."""

    params = ErrorParams

    def _fail(self, event: Event) -> None:
        cls: type[Any] = CODES[self.p.code]
        detail = f"injected by {self.rule.id}"
        error: SymphonyError = (
            cls(_POISON_REASON, detail) if issubclass(cls, Poison) else cls(detail)
        )
        raise error


class TimeoutParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`after_ms`: how long is waited before it is given up."""

    after_ms: Annotated[float, Meta(ge=0, le=HOLD_MAX_MS)] = 1_000.0


class Timeout(_Handling[TimeoutParams]):
    """The handling does not end within its time: what it has done is unknown, so Indefinite."""

    params = TimeoutParams

    async def _struck(self, events: Sequence[Event]) -> None:
        await self.hold(self.p.after_ms)

    def _fail(self, event: Event) -> None:
        raise Indefinite(f"no end within {self.p.after_ms:g} ms, injected by {self.rule.id}")


class Slow(_Handling[Between]):
    """The handling takes longer, the whole batch with it."""

    params = Between

    async def _struck(self, events: Sequence[Event]) -> None:
        lucks = [self.hits.luck(one.topic, one.key, event=one.event_id) for one in events]
        await self.hold(max(within(self.p.min_ms, self.p.max_ms, luck) for luck in lucks))


RESTART_S = 120.0
"""So much later than a rule's lease its worker may still come back, to find it renewed."""


class Crashed(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule has done to one worker: `crashes` in all, `untold` of them in no count yet.

    Past `until_s` (Unix) it means nothing.
    """

    crashes: int = 0
    untold: int = 0
    until_s: float = 0.0


class Crash(Base[Params]):
    """The process is gone at once, as after kill -9; each worker at most `times` times, or once.

    How often it was is on disk: the successor reads the same messages under the same rule, and
    counts the hits that its predecessor could not tell. A rule that is made again with its id and
    seed, to renew its lease, is the same rule.
    """

    params = Params

    def __init__(self, rule: Rule, hits: Hits, app: App) -> None:
        super().__init__(rule, hits, app)
        self._point = rule.scope.point or point_of(app.role.name)
        self._passed = 0
        self._file = Path(app.settings.data_dir) / f"{app.settings.worker_id}.crashes.json"
        self._name = f"{rule.id}@{rule.epoch}.{rule.seed}"

    def _attach(self) -> None:
        past = self._read().get(self._name)
        if past is not None:
            for _ in range(past.untold):
                self.hits.hit(self._point)
            self._write(past.crashes, untold=0)
        if past is None or past.crashes < (self.rule.times or 1):
            failpoints.add(self._point, self._strike)

    def _detach(self) -> None:
        failpoints.discard(self._point, self._strike)

    async def _strike(self, hit: Hit) -> None:
        if any(self._struck(event) for event in hit.events) if hit.events else self._pass():
            self._write(self._crashes() + 1, untold=self.hits.untold)
            logging.shutdown()
            os._exit(EXIT_CODE)

    def _struck(self, event: Event) -> bool:
        return event.topic in STRIKABLE and self.hits.strikes(
            event.topic,
            event.key,
            event.delivery + self._crashes(),
            event=event.event_id,
            type=event.type,
            point=self._point,
        )

    def _pass(self) -> bool:
        self._passed += 1
        return self.hits.strikes(key=self.worker, attempt=self._passed, point=self._point)

    def _crashes(self) -> int:
        past = self._read().get(self._name)
        return 0 if past is None else past.crashes

    def _read(self) -> dict[str, Crashed]:
        """What stands on disk that still means something."""
        try:
            found = _CRASHED.decode(self._file.read_bytes())
        except (OSError, msgspec.DecodeError):
            return {}
        now_s = time.time()
        return {name: past for name, past in found.items() if past.until_s > now_s}

    def _write(self, crashes: int, *, untold: int) -> None:
        """Replace what stands there of this rule; what stands of others stays."""
        until_s = self.rule.expires_at.timestamp() + RESTART_S
        mine = Crashed(crashes=crashes, untold=untold, until_s=until_s)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        beside = self._file.with_suffix(".new")
        beside.write_bytes(msgspec.json.encode({**self._read(), self._name: mine}))
        beside.replace(self._file)


_CRASHED = msgspec.json.Decoder(dict[str, Crashed])


def point_of(role: str) -> str:
    """Where a worker of `role` crashes unless a rule says where: its effects are durable, nobody
    has been told."""
    if ROLES[role].consumes:
        return "delivery.after_commit"
    return f"{role}.after_publish" if ROLES[role].produces else f"{role}.after_commit"
