"""What a fault kind of chaos rules is, and what all of them share.

A kind is made for one rule by `build` and is in force between `start` and `stop`: nothing happens
before, and nothing is left of it afterwards. Neither may wait; both may be called twice and run on
the application's event loop. The rule's `Hits` decides what is struck; a kind asks it of everything
that passes its seam, and does it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from app.messages.deadletter import read_failure
from app.messages.envelope import ATTEMPT_MAX
from app.observability import metrics
from app.topics import MESSAGE_TOPICS
from chaos.faults.fault import BadFault

if TYPE_CHECKING:
    from app.delivery import App
    from app.messages.envelope import Headers
    from chaos.control.hits import Hits
    from chaos.control.rule import Rule

HOLD_MAX_MS = 5_000
"""The longest that one batch, round or request is held: less than the drain grace."""
SEEN_MAX = 20_000

COMMANDS = frozenset(
    {
        "payment.requested",
        "payment.requested.canary",
        "payment.refund",
        "inventory.requested",
        "inventory.release",
        "inventory.commit",
        "shipping.requested",
        "shipping.cancel",
    }
)
RESULTS = frozenset({"payment.result", "inventory.result", "shipping.result"})
STRIKABLE = frozenset(MESSAGE_TOPICS) - {"chaos.injected"}
"""Topics whose messages a rule may strike: not tiers, dead letters or what controls rules."""
UNSAFE_TO_LOSE = STRIKABLE - COMMANDS - RESULTS
"""Nobody sends these again: a lost delivery would be lost for ever. A command that is not answered
is sent again by the orchestrator, and a result comes again with the answer to that."""

P = TypeVar("P", bound=msgspec.Struct)


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters of a kind that has none."""


class Active(Protocol):
    """A fault that a worker has for one rule."""

    def start(self) -> None:
        """Put it in force; raises ValueError when this worker cannot have it."""

    def stop(self) -> None:
        """Take it away at once, whatever it was doing; harmless when called twice."""


@dataclass(frozen=True)
class Kind:
    """One fault kind. `scope` are the fields of a rule's scope that narrow it, besides roles and
    workers; `roles` are those that can show it; `conflicts` are kinds that must not be in force
    where it is, by name. `loses`: a delivery may be lost by it (UNSAFE_TO_LOSE: for ever).
    """

    name: str
    meaning: str
    params: type[msgspec.Struct]
    scope: frozenset[str]
    roles: frozenset[str]
    conflicts: frozenset[str]
    build: Callable[[Rule, Hits, App], Active]
    loses: bool = False

    def read_params(self, given: dict[str, Any]) -> msgspec.Struct:
        """The parameters, with their defaults. Raises BadFault with what is wrong."""
        return _read(self.name, self.params, given)


def _read(name: str, params: type[P], given: dict[str, Any]) -> P:
    try:
        return msgspec.convert(given, params)
    except (msgspec.ValidationError, ValueError) as error:
        raise BadFault(f"fault {name}: {error}") from None


class Base(Generic[P]):
    """An active fault with the parameters `p`."""

    params: type[P]

    def __init__(self, rule: Rule, hits: Hits, app: App) -> None:
        self.rule = rule
        self.hits = hits
        self.app = app
        self.p = _read(rule.fault, self.params, rule.params)
        self._over = asyncio.Event()
        self._on = False

    def start(self) -> None:
        """Be in force from now on."""
        if not self._on:
            self._on = True
            self._over.clear()
            self._attach()

    def stop(self) -> None:
        """Leave nothing behind; whatever is held goes on at once."""
        if self._on:
            self._on = False
            self._over.set()
            self._detach()

    def _attach(self) -> None:
        raise NotImplementedError

    def _detach(self) -> None:
        raise NotImplementedError

    @property
    def worker(self) -> bytes:
        """The key by which it is decided what strikes a worker and no message."""
        return self.app.settings.worker_id.encode()

    async def hold(self, hold_ms: float) -> None:
        """Wait, at most HOLD_MAX_MS, and no longer than the fault is in force."""
        began = perf_counter()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(hold_ms, HOLD_MAX_MS) / 1000):
                await self._over.wait()
        metrics.FAULT_DELAY.child(self.rule.fault).observe(perf_counter() - began)


class Passing(NamedTuple):
    """A message that passes: what `Hits` is asked about it."""

    topic: str
    key: bytes
    event: str
    type: str
    delivery: int
    """0 unless it was retried or re-driven."""


def passing(topic: str, key: bytes | None, headers: Headers) -> Passing:
    """Read as much of a message as its envelope tells; raises nothing."""
    named = dict(headers)
    failure = read_failure(headers)
    return Passing(
        topic,
        key or b"",
        (named.get("ce_id") or b"").decode("utf-8", "replace"),
        (named.get("ce_type") or b"").decode("utf-8", "replace"),
        failure.redrives * (ATTEMPT_MAX + 1) + failure.attempt,
    )


class Seen:
    """How often each message has passed here, for the newest SEEN_MAX of them.

    A message that is sent again is the same message: without this count it would be a victim again
    for the very reason for which it was the first time.
    """

    def __init__(self) -> None:
        self._times: OrderedDict[tuple[str, str], int] = OrderedDict()

    def times(self, one: Passing) -> int:
        """How often it has passed before; counts this time."""
        name = (one.topic, one.event or repr(one.key))
        before = self._times.pop(name, 0)
        self._times[name] = before + 1
        if len(self._times) > SEEN_MAX:
            self._times.popitem(last=False)
        return before


def within(low: float, high: float, luck: float) -> float:
    """The number between `low` and `high` that `luck` in [0, 1) stands for."""
    return low + (high - low) * luck


class Between(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Times that are drawn between two bounds, in milliseconds."""

    min_ms: float = 100.0
    max_ms: float = 1_000.0

    def __post_init__(self) -> None:
        if not 0 <= self.min_ms <= self.max_ms <= HOLD_MAX_MS:
            raise ValueError(f"0 <= min_ms <= max_ms <= {HOLD_MAX_MS} must hold")
