"""What the two plug-ins for unawaited sends share: records that leave some time later.

A producer buffer as Faust and most clients have it: the call returns at once, the batch leaves
`LINGER_S` later, and what becomes of it nobody who could act is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from app.delivery import step
from app.delivery.outputs import Acked, Outputs
from app.observability.logging import get_log
from chaos.naive.loud import replace

LINGER_S = 1.5

log = get_log(__name__)
_tasks: set[asyncio.Task[None]] = set()


def send_later(chosen: Callable[[str], bool]) -> None:
    """From now on steps await nothing of the topics that `chosen` accepts."""

    class Buffered(Outputs):
        """Awaits what was not chosen."""

        async def flush(self) -> list[Acked]:
            """Replaces the flush: the chosen batches leave later, by themselves."""
            late = [tp for tp in self._open if chosen(tp[0])]
            if late:
                buffer = Outputs(self._producer)
                buffer._open = {tp: self._open.pop(tp) for tp in late}
                task = asyncio.create_task(_leave(buffer))
                _tasks.add(task)
                task.add_done_callback(_tasks.discard)
            return await super().flush()

    replace(step, "Outputs", Buffered)


async def _leave(buffer: Outputs) -> None:
    await asyncio.sleep(LINGER_S)
    acknowledged = await buffer.flush()
    log.debug("naive.buffer_left", batches=len(acknowledged))
