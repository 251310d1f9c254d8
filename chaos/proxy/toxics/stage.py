"""The interface of a toxic: a stage that takes items and says when it lets go which of them.

A stage belongs to one direction of one connection. It is pure: time is given by the caller
(monotonic seconds), randomness is a generator of its own, and it does no I/O. Guarantees: bytes
leave in the order in which they came; a stage that drops bytes never lets later ones pass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from random import Random
from typing import Annotated, ClassVar, Generic, TypeVar

import msgspec

from chaos.proxy.items import Item, size

DAY_MS = 24 * 60 * 60 * 1000
NOTABLE_DELAY_S = 0.001
"""Bytes that waited less do not count as delayed."""

Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=DAY_MS)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Attributes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A toxic's attributes, named as in Toxiproxy. A missing one is 0, as there."""

    def problem(self) -> str:
        """What is wrong between attributes that are each in range; empty when nothing is."""
        return ""


A = TypeVar("A", bound=Attributes)


class Stage(ABC, Generic[A]):
    """One toxic in one direction of one connection.

    The caller calls `release` only when `due()` is not later than its now, and passes what it
    returns on. `held` counts bytes inside, `dropped` and `delayed` count what became of bytes.
    """

    kind: ClassVar[str]
    attributes_type: ClassVar[type[Attributes]]

    def __init__(self, attributes: A, rng: Random, now: float) -> None:
        self.attributes, self._rng, self._started = attributes, rng, now
        self.held = self.dropped = self.delayed = 0
        self._queue: deque[tuple[float, Item]] = deque()
        self._offset = 0

    def take(self, item: Item, now: float) -> None:
        """Accept the next item."""
        self._queue.append((now, item))
        self.held += size(item)

    @property
    def pending(self) -> bool:
        """Whether anything inside is still to pass, be it an end without bytes."""
        return bool(self._queue)

    @abstractmethod
    def due(self) -> float | None:
        """When the next item may pass; None when nothing passes by itself."""

    def release(self, now: float) -> Item:
        """The item that is due."""
        return self._pop(now)

    def change(self, attributes: A, now: float) -> None:
        """Other attributes from now on, for what is held too."""
        self.attributes = attributes

    def surrender(self) -> list[Item]:
        """The toxic goes: what is to pass at once, in order. The stage is not used again."""
        items = [item for _, item in self._queue]
        if items and self._offset:
            head = items[0]
            assert isinstance(head, bytes)
            items[0] = head[self._offset :]
        self._queue.clear()
        self.held = 0
        return items

    def _pop(self, now: float) -> Item:
        """Take the first item, or what is left of it, out of the queue."""
        arrived, item = self._queue.popleft()
        if isinstance(item, bytes) and self._offset:
            item, self._offset = item[self._offset :], 0
        return self._count_out(item, arrived, now)

    def _cut(self, most: int, now: float) -> bytes:
        """Take at most `most` of the first item's bytes out of the queue."""
        arrived, item = self._queue[0]
        assert isinstance(item, bytes)
        piece = item[self._offset : self._offset + most]
        self._offset += len(piece)
        if self._offset >= len(item):
            self._queue.popleft()
            self._offset = 0
        self._count_out(piece, arrived, now)
        return piece

    def _left_of_head(self) -> int:
        """Bytes of the first item that are still inside; 0 when it is an end."""
        return size(self._queue[0][1]) - self._offset

    def _count_out(self, item: Item, arrived: float, now: float) -> Item:
        self.held -= size(item)
        if now - arrived >= NOTABLE_DELAY_S:
            self.delayed += size(item)
        return item
