"""slicer: data arrive in small slices, `delay` microseconds apart."""

from __future__ import annotations

from random import Random
from typing import Annotated

import msgspec

from chaos.proxy.items import Item
from chaos.proxy.toxics.stage import DAY_MS, Attributes, Stage

Bytes = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
Microseconds = Annotated[int, msgspec.Meta(ge=0, le=DAY_MS * 1000)]


class SlicerAttributes(Attributes, frozen=True):
    """Sizes in bytes, `delay` in microseconds."""

    average_size: Bytes = 0
    size_variation: Bytes = 0
    delay: Microseconds = 0

    def problem(self) -> str:
        if self.average_size < 1:
            return "average_size must be at least 1"
        if self.size_variation >= self.average_size:
            return "size_variation must be below average_size"
        return ""


class Slicer(Stage[SlicerAttributes]):
    """Cuts each chunk into slices of average_size +/- size_variation bytes, evenly drawn."""

    kind = "slicer"
    attributes_type = SlicerAttributes

    def __init__(self, attributes: SlicerAttributes, rng: Random, now: float) -> None:
        super().__init__(attributes, rng, now)
        self._free_at = now

    def due(self) -> float | None:
        if not self._queue:
            return None
        return max(self._free_at, self._queue[0][0])

    def release(self, now: float) -> Item:
        due = self.due()
        assert due is not None
        if not self._left_of_head():
            return self._pop(now)
        self._free_at = due + self.attributes.delay / 1_000_000
        spread = self.attributes.size_variation
        return self._cut(self.attributes.average_size + self._rng.randint(-spread, spread), now)

    def change(self, attributes: SlicerAttributes, now: float) -> None:
        self._free_at = min(self._free_at, now + attributes.delay / 1_000_000)
        super().change(attributes, now)
