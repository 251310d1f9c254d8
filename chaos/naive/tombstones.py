"""What the plug-ins without tombstones share: early compensations are answered and forgotten."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Sequence
from typing import Any

from app.delivery import Event


async def answer_apart(
    events: Sequence[Event],
    known: Container[str],
    compensation: type,
    forget: Callable[[Event], Any],
    work: Callable[[Sequence[Event]], Awaitable[Sequence[Any]]],
) -> list[Any]:
    """Answer by `forget` the compensations of orders that are neither `known` nor commanded in this
    batch, by `work` all other events; in the order of the events.
    """
    undone = [isinstance(event.body, compensation) for event in events]
    both = list(zip(events, undone, strict=True))
    commanded = {event.body.order_id for event, is_undone in both if not is_undone}
    early = [
        is_undone and event.body.order_id not in known and event.body.order_id not in commanded
        for event, is_undone in both
    ]
    rest = [event for event, is_early in zip(events, early, strict=True) if not is_early]
    answers = iter(await work(rest))
    return [
        forget(event) if is_early else next(answers)
        for event, is_early in zip(events, early, strict=True)
    ]
