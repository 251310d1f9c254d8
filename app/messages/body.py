"""What all message bodies share: immutability, bounds, and where they travel.

A body is one JSON object. Readers ignore fields they do not know; a field may be added only with a
default, anything else is a new class with a higher `VERSION`. Money is integer minor units plus a
currency code.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

Id = Annotated[str, Meta(min_length=36, max_length=36)]
Text = Annotated[str, Meta(max_length=200)]
Name = Annotated[str, Meta(min_length=1, max_length=100)]
Address = Annotated[str, Meta(max_length=500)]
Currency = Annotated[str, Meta(min_length=3, max_length=3)]
Amount = Annotated[int, Meta(ge=0, le=10**15)]
Total = Annotated[int, Meta(ge=1, le=10**15)]
Count = Annotated[int, Meta(ge=0, le=10**9)]
Quantity = Annotated[int, Meta(ge=1, le=10**6)]
Instant = Annotated[datetime, Meta(tz=True)]


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all message bodies; subclasses name their topics, key field and major version."""

    TOPICS: ClassVar[tuple[str, ...]] = ()
    KEY: ClassVar[str] = "order_id"
    VERSION: ClassVar[int] = 1

    @classmethod
    def ce_type(cls) -> str:
        """Return the CloudEvents type: the first topic's name and the major version."""
        return f"{cls.TOPICS[0]}.v{cls.VERSION}"
