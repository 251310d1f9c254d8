"""One direction of one connection: reads from its source, passes the chain, writes to its target.

Guarantees: bytes arrive unchanged and in order, as long as no toxic drops any; a source is not
read while its target takes nothing or the link holds too much; without toxics there is no copy and
no timer.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

from chaos.proxy.chain import Chain
from chaos.proxy.items import End, Item
from chaos.proxy.memory import Memory
from chaos.proxy.stats import StreamStats
from chaos.proxy.toxics.stage import Attributes, Stage

MOVES_MAX = 512
"""Items moved before others get their turn."""


class Link:
    """`write` gets bytes for the target, `on_end` how it ends, `read` whether to read on."""

    def __init__(
        self,
        *,
        write: Callable[[bytes], None],
        on_end: Callable[[End], None],
        read: Callable[[bool], None],
        stats: StreamStats,
        memory: Memory,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._write, self._on_end, self._read = write, on_end, read
        self._stats, self._memory, self._loop = stats, memory, loop
        self._chain = Chain()
        self._timer: asyncio.Handle | None = None
        self._held = 0
        self._blocked = self._deaf = self._closed = False
        self.finished = False

    @property
    def over(self) -> bool:
        """Whether nothing will come any more of a source that has ended."""
        return self.finished or not self._chain.pending

    def feed(self, item: Item) -> None:
        """The source has sent data, or ended."""
        if self._closed:
            return
        if not self._chain:
            self._put(item)
            return
        self._chain.feed(item, time.monotonic())
        self._pump()

    def block(self, blocked: bool) -> None:
        """The target takes no more for now, or takes again."""
        self._blocked = blocked
        self._let_read()

    def deafen(self) -> None:
        """The target is gone: everything from now on is dropped."""
        self._deaf = True
        self.block(False)

    def close(self) -> None:
        """The connection is over: what is still inside is dropped."""
        if self._closed:
            return
        self._closed = True
        self._stats.dropped += self._chain.held
        self._hold(0)
        self._cancel_timer()

    def add(self, number: int, stage: Stage[Any]) -> None:
        """A toxic begins, at once."""
        self._chain.add(number, stage)
        self._pump()

    def change(self, number: int, attributes: Attributes) -> None:
        """A toxic changes, at once; nothing where it does not apply."""
        if number in self._chain:
            self._chain.change(number, attributes, time.monotonic())
            self._pump()

    def remove(self, number: int) -> None:
        """A toxic ends, at once; nothing where it does not apply."""
        if number in self._chain:
            for item in self._chain.remove(number, time.monotonic()):
                self._put(item)
            self._pump()

    def has(self, number: int) -> bool:
        """Whether a toxic applies here."""
        return number in self._chain

    def _put(self, item: Item) -> None:
        """Pass on what has left the last stage."""
        if self._closed or (self.finished and not isinstance(item, End)):
            return
        if isinstance(item, End):
            self.finished = True
            self._on_end(item)
        elif self._deaf:
            self._stats.dropped += len(item)
        else:
            self._stats.bytes += len(item)
            self._write(item)

    def _pump(self) -> None:
        """Do what is due, and set the timer for what comes next."""
        self._cancel_timer()
        if self._closed:
            return
        chain = self._chain
        items = chain.advance(time.monotonic(), MOVES_MAX)
        self._stats.dropped += chain.dropped
        self._stats.delayed += chain.delayed
        chain.dropped = chain.delayed = 0
        self._hold(chain.held)
        for item in items:
            self._put(item)
        self._let_read()
        self._set_timer(chain.due())

    def _hold(self, held: int) -> None:
        self._stats.held += held - self._held
        self._memory.held += held - self._held
        self._held = held

    def _let_read(self) -> None:
        if not self._closed:
            self._read(self._deaf or (not self._blocked and self._memory.room(self._held)))

    def _set_timer(self, due: float | None) -> None:
        if due is None or self._closed:  # by an end that was among the items
            return
        wait_s = due - time.monotonic()
        if wait_s <= 0:
            self._timer = self._loop.call_soon(self._pump)
        else:  # the loop's clock has milliseconds; what is due earlier leaves together
            self._timer = self._loop.call_later(math.ceil(wait_s * 1000) / 1000, self._pump)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
