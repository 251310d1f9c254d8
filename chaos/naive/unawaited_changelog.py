"""Plug-in: the orchestrator writes its table and does not await the changelog.

Cure removed: the changelog is acknowledged before the store is written and the watermark moves.
Hurts when: the worker dies after an offset commit, with changelog records still in its buffer.
Breaks: T1 (the table that a successor recovers is not PostgreSQL's).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos.naive.loud import unsafe
from chaos.naive.unawaited import send_later

if TYPE_CHECKING:
    from app.delivery import App


def install(app: App) -> None:
    """Have the orchestrator forget its changelog."""
    if unsafe(app, __name__, "acknowledged changelogs", "orchestrator"):
        send_later(lambda topic: topic.endswith("-changelog"))
