"""Plug-in: the delivery core without its resume deferral and without its position guard.

What remains is stock Faust's behaviour: partitions are polled as soon as recovery resumes them,
before seek and release; what such a poll brings is dropped, but the fetch position has moved.
Without the guard the hole is then taken for compaction and committed over: events are lost.

Cure removed: the deferral of Faust's early resume, and the position guard.
Hurts when: partitions are assigned while records come in.
Breaks: E2 (committed and never taken in), O4 (its orders never move).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from faust.types import TP

from app.delivery.consumer import Consumer
from app.delivery.positions import Positions, R
from chaos.naive.loud import unsafe

if TYPE_CHECKING:
    from app.delivery import App


class UnguardedPositions(Positions):
    """Believes every jump; skips what is below, as Faust's _read_offset does."""

    def guard(
        self, tp: TP, records: Sequence[R], highwater: int | None
    ) -> tuple[Sequence[R], int | None]:
        """Replaces the guard: never seeks back, a jump upwards is a hole."""
        del highwater
        return [record for record in records if record.offset >= self.next[tp]], None


class EagerConsumer(Consumer):
    """Polls what Faust has resumed, released or not."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.positions = UnguardedPositions()

    def _wanted(self, active: set[TP]) -> tuple[frozenset[TP], bool]:
        """Replaces the deferral."""
        if self.released:
            return super()._wanted(active)
        return frozenset(active), False


def install(app: App) -> None:
    """Give `app` the consumer without the two cures."""
    if unsafe(app, __name__, "deferred resume and position guard", "orchestrator", "probe"):
        app.transport.Consumer = EagerConsumer
