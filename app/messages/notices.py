"""Messages about the platform itself, for whoever is to be told of them."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from app.messages.body import Body, Count, Instant, Name, Text

Version = Annotated[int, Meta(ge=0, le=2**62)]


class ChaosInjected(Body, frozen=True, kw_only=True):
    """A rule struck `hits` times at `worker` since its last such message; told at most once a
    second. `rule_version`: a rule that is laid down again under the same id is another one."""

    TOPICS: ClassVar = ("chaos.injected",)
    KEY: ClassVar = "rule_id"

    rule_id: Name
    fault: Name
    worker: Name
    place: Text = ""
    hits: Count
    at: Instant
    rule_version: Version = 0


class ApiRateLimited(Body, frozen=True, kw_only=True):
    """A client was refused for asking more often than `limit_per_min`."""

    TOPICS: ClassVar = ("api.rate_limited",)
    KEY: ClassVar = "client"

    client: Name
    limit_per_min: Count
    at: Instant
