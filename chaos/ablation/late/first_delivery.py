"""Hold back the first delivery of chosen messages of one role."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from app import failpoints
from app.errors import Indefinite
from app.observability.logging import get_log

if TYPE_CHECKING:
    from app.delivery import App
    from app.failpoints import Hit

POINT = "delivery.in_transaction"
EVENT = "late.held_back"

log = get_log(__name__)


def hold_back(app: App, role: str, topic: str, chosen: Callable[[Any], bool]) -> None:
    """In workers of `role`: fail each first delivery on `topic` whose body is `chosen`."""
    if app.role.name != role:
        return

    async def fail(hit: Hit) -> None:
        for event in hit.events:
            if event.topic == topic and not event.delivery and chosen(event.body):
                log.warning(EVENT, topic=topic, key=event.key.decode(), events=len(hit.events))
                raise Indefinite("held back by the laboratory")

    failpoints.install(POINT, fail)
