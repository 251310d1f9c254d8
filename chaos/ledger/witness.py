"""Plug-in for a worker on trial: writes down every record whose step begins.

Guarantees: a record stands in `deliveries-<worker>` of the data directory before its step does
anything, so deliveries beyond effects are duplicates. It sees the product, never changes it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.delivery import App
    from app.delivery.batch import BatchMessage


def install(app: App) -> None:
    """Put the witness before every step of `app`."""
    directory = Path(app.settings.data_dir)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"deliveries-{app.settings.worker_id}"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for runner in app.runners:
        runner.step.run = _witnessed(runner.step.run, file)  # type: ignore[method-assign, assignment]


def _witnessed(
    run: Callable[[BatchMessage], Coroutine[Any, Any, None]], file: int
) -> Callable[[BatchMessage], Coroutine[Any, Any, None]]:
    async def witnessed(message: BatchMessage) -> None:
        lines = [
            b"%s %d %d %s\n" % (tp.topic.encode(), tp.partition, record.offset, record.key or b"-")
            for tp, records in message.value.items()
            for record in records
        ]
        os.write(file, b"".join(lines))
        await run(message)

    return witnessed
