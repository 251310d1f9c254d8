"""The canary's configuration on its control topic, and what a worker knows of it.

One key holds it all. What cannot be read is refused and leaves the former configuration in force;
a deleted or absent one means that no order goes to the canary.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from app.control.board import Board
from app.domain.canary import goes_to_canary
from app.observability.logging import get_log
from app.topics import CANARY_ACKS, CANARY_CONFIG

if TYPE_CHECKING:
    from app.clock import Clock
    from app.settings import Settings

log = get_log(__name__)

KEY: Final = "canary.payment"
ROLE: Final = "payment-canary"

Percent = Annotated[float, Meta(ge=0, le=100)]


class CanaryConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which share of the orders goes to the canary, who set it and since when.

    `auto` lets it be rolled back or promoted by its figures; `promoted` says that it was.
    """

    percent: Percent
    auto: bool
    by: str
    since: Annotated[datetime, Meta(tz=True)]
    reason: str = ""
    promoted: bool = False


_DECODER: Final = msgspec.json.Decoder(CanaryConfig)
encode: Final = msgspec.json.Encoder().encode


class Split:
    """What one worker knows of the canary's share; `config` is None while nothing was set."""

    def __init__(self) -> None:
        self.config: CanaryConfig | None = None
        self.version = 0

    @property
    def percent(self) -> float:
        """The share in force, 0 while nothing was set."""
        return 0.0 if self.config is None else self.config.percent

    def is_canary(self, order_id: str) -> bool:
        """Whether a charge of this order, sent now, goes to the canary."""
        return goes_to_canary(order_id, self.percent)

    def apply(self, key: str, value: bytes | None, version: int) -> str:
        """Take one change of the control topic; return why it was refused, empty when taken."""
        if key != KEY:
            return f"unknown key, {KEY} is the only one"
        if value is None:
            self.config, self.version = None, version
            return ""
        try:
            self.config = _DECODER.decode(value)
        except msgspec.DecodeError as error:
            return f"cannot be read: {error}"
        self.version = version
        log.info("canary.applied", percent=self.config.percent, version=version)
        return ""


def board(settings: Settings, split: Split, clock: Clock) -> Board:
    """Return the service that keeps `split` current and acknowledges for this worker."""
    return Board(
        settings,
        topic=CANARY_CONFIG,
        acks=CANARY_ACKS,
        apply=split.apply,
        note=lambda: {"percent": split.percent},
        clock=clock,
    )
