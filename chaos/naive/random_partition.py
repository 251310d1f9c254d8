"""Plug-in: payment sends its results to any partition.

Cure removed: an output whose key is its cause's goes to its cause's partition.
Hurts when: an order has two results. No fault is needed.
Breaks: X5 (a key on several partitions), and with it the order of what is said about a key: X4, and
its one working copy: T1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from zlib import crc32

import msgspec

from app.delivery.effects import Finished
from app.delivery.outputs import Outputs
from app.delivery.step import Step
from chaos.naive.loud import unsafe

if TYPE_CHECKING:
    from app.delivery import App


class AnyPartition(Step):
    """Spreads the load, and the orders with it."""

    async def _add_outputs(self, outputs: Outputs, finished: Iterable[Finished]) -> int:
        """Extends the choice of a partition: by body, not by key."""
        count = self._app.settings.topic_partitions
        spread = [
            one._replace(
                outputs=[
                    msgspec.structs.replace(out, partition=crc32(out.value or b"") % count)
                    for out in one.outputs
                ]
            )
            for one in finished
        ]
        return await super()._add_outputs(outputs, spread)


def install(app: App) -> None:
    """Have payment spread its results."""
    if unsafe(app, __name__, "a key keeps its partition", "payment"):
        for runner in app.runners:
            runner.step.__class__ = AnyPartition
