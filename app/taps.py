"""Where a laboratory may stand between a worker and its servers.

One `Taps` a worker: what it reads, what it sends, what it asks PostgreSQL, and which topics it does
not poll. Each slot is an empty tuple or set in production, so that a pass costs one test of it.
Production never fills them: only a lab's plug-in does (`app.factory`), and it takes back what it
has put there. One thing apart: role `slo` does not poll what it has no usable objective for. A hook
that raises or waits does so in the place of the server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from aiokafka.structs import ConsumerRecord

from app.messages.envelope import Output

Incoming = Callable[[str, Sequence[ConsumerRecord]], Awaitable[Sequence[ConsumerRecord]]]
"""(consumer's name, records of a batch before they are decoded) -> records to process instead.

Offsets are not the hook's business: what it leaves out is passed over."""
Outgoing = Callable[[Output], Awaitable[Sequence[Output]]]
"""A message about to be sent -> what is sent instead. Tables' changelogs do not pass."""
BeforeStatement = Callable[[], Awaitable[None]]
"""Awaited before each round trip; may raise DatabaseOutage or TransientDatabase, as a server does.
"""

_exempt: ContextVar[bool] = ContextVar("taps_exempt", default=False)


class Taps:
    """The hooks of one worker, in the order in which they were added."""

    __slots__ = ("_pauses", "incoming", "outgoing", "paused", "statements")

    def __init__(self) -> None:
        self.incoming: tuple[Incoming, ...] = ()
        self.outgoing: tuple[Outgoing, ...] = ()
        self.statements: tuple[BeforeStatement, ...] = ()
        self.paused: frozenset[str] = frozenset()
        """Topics that the worker's consumer does not poll; changed by `pause` and `resume`."""
        self._pauses: dict[Hashable, frozenset[str]] = {}

    async def on_read(
        self, consumer: str, records: Sequence[ConsumerRecord]
    ) -> Sequence[ConsumerRecord]:
        """What `consumer` is to process in place of `records`."""
        for hook in self.incoming:
            records = await hook(consumer, records)
        return records

    async def on_send(self, output: Output) -> Sequence[Output]:
        """What is to be sent in place of `output`."""
        outputs: Sequence[Output] = (output,)
        for hook in self.outgoing:
            outputs = [sent for one in outputs for sent in await hook(one)]
        return outputs

    def pause(self, owner: Hashable, topics: Iterable[str]) -> None:
        """Have `topics` not polled, in place of those that `owner` had paused before.

        Polls that were made before are processed still; the partitions stay assigned.
        """
        self._pauses[owner] = frozenset(topics)
        self.paused = frozenset().union(*self._pauses.values())

    def resume(self, owner: Hashable) -> None:
        """Let the topics that `owner` paused be polled again, where nobody else paused them."""
        self._pauses.pop(owner, None)
        self.paused = frozenset().union(*self._pauses.values())

    async def on_statement(self) -> None:
        """A round trip to PostgreSQL begins next."""
        if not _exempt.get():
            for hook in self.statements:
                await hook()


@contextmanager
def exempt() -> Iterator[None]:
    """Statements of this task pass untouched: whoever ends a fault must not be its victim."""
    token = _exempt.set(True)
    try:
        yield
    finally:
        _exempt.reset(token)
