"""Plug-in: the orchestrator does not await the acknowledgement of what it publishes.

Cure removed: every output is acknowledged before the watermark moves.
Hurts when: the worker dies after an offset commit, with records still in its buffer.
Breaks: X1 (a decided output is nowhere), X4 (a change of status that was never announced).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos.naive.loud import unsafe
from chaos.naive.unawaited import send_later

if TYPE_CHECKING:
    from app.delivery import App


def install(app: App) -> None:
    """Have the orchestrator send and forget."""
    if unsafe(app, __name__, "acknowledged outputs", "orchestrator"):
        send_later(lambda topic: not topic.endswith("-changelog"))
