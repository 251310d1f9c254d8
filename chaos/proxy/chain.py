"""The toxics of one direction of one connection, one behind the other, without any I/O.

Guarantees: what is fed comes out in order; items pass from stage to stage when they are due;
adding, changing and removing a stage keeps everything that is inside in its place.
"""

from __future__ import annotations

from bisect import insort
from typing import Any, NamedTuple

from chaos.proxy.items import Item
from chaos.proxy.toxics.stage import Attributes, Stage


class _Place(NamedTuple):
    """A stage and its toxic's number, which is its rank."""

    number: int
    stage: Stage[Any]


class Chain:
    """An ordered row of stages, by the number of their toxic."""

    def __init__(self) -> None:
        self._places: list[_Place] = []
        self.dropped = self.delayed = 0

    def __bool__(self) -> bool:
        return bool(self._places)

    def __contains__(self, number: int) -> bool:
        return any(place.number == number for place in self._places)

    @property
    def held(self) -> int:
        """Bytes inside."""
        return sum(place.stage.held for place in self._places)

    @property
    def pending(self) -> bool:
        """Whether anything is still to come out of what was fed."""
        return any(place.stage.pending for place in self._places)

    def add(self, number: int, stage: Stage[Any]) -> None:
        """Put a stage behind those of lower numbers."""
        insort(self._places, _Place(number, stage), key=lambda place: place.number)

    def change(self, number: int, attributes: Attributes, now: float) -> None:
        """Other attributes for a stage that is there."""
        next(place.stage for place in self._places if place.number == number).change(
            attributes, now
        )

    def remove(self, number: int, now: float) -> list[Item]:
        """Take a stage out; what it held goes to the next stage, or is returned by the last."""
        index = next(i for i, place in enumerate(self._places) if place.number == number)
        stage = self._places.pop(index).stage
        left = stage.surrender()
        self._count(stage)
        if index == len(self._places):
            return left
        for item in left:
            self._places[index].stage.take(item, now)
        return []

    def feed(self, item: Item, now: float) -> None:
        """Give the first stage an item; there must be one."""
        self._places[0].stage.take(item, now)

    def due(self) -> float | None:
        """When `advance` will next have something to do, None when never by itself."""
        times = [due for place in self._places if (due := place.stage.due()) is not None]
        return min(times, default=None)

    def advance(self, now: float, moves_max: int) -> list[Item]:
        """Move on what is due, at most `moves_max` steps of items; what left the last stage."""
        out: list[Item] = []
        for index, (_, stage) in enumerate(self._places):
            following = self._places[index + 1].stage if index + 1 < len(self._places) else None
            while moves_max > 0 and (due := stage.due()) is not None and due <= now:
                item = stage.release(now)
                moves_max -= 1
                if following is None:
                    out.append(item)
                else:
                    following.take(item, now)
            self._count(stage)
        return out

    def _count(self, stage: Stage[Any]) -> None:
        self.dropped += stage.dropped
        self.delayed += stage.delayed
        stage.dropped = stage.delayed = 0
