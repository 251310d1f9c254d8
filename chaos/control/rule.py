"""Chaos rules: what a rule is, and which of the things that pass it strikes; pure.

A rule is decided by a hash of its seed, its id and what passes (topic, key, attempt, event), so the
same seed has the same victims in whatever order and in whichever worker they come. `nth` and
`times` are the exception: each worker counts what passes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from hashlib import blake2b
from struct import Struct
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from app.topics import (
    INVENTORY_COMMIT,
    INVENTORY_RELEASE,
    INVENTORY_REQUESTED,
    INVENTORY_RESULT,
    PAYMENT_REFUND,
    PAYMENT_REQUESTED,
    PAYMENT_REQUESTED_CANARY,
    PAYMENT_RESULT,
    SHIPPING_CANCEL,
    SHIPPING_REQUESTED,
    SHIPPING_RESULT,
)

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,79}\Z"
NTH_MAX = 10**9
SEED_MAX = 2**53

STEP_TOPICS: Mapping[str, tuple[str, ...]] = {
    "payment": (
        PAYMENT_REQUESTED.name,
        PAYMENT_REQUESTED_CANARY.name,
        PAYMENT_REFUND.name,
        PAYMENT_RESULT.name,
    ),
    "inventory": (INVENTORY_REQUESTED.name, INVENTORY_RELEASE.name, INVENTORY_RESULT.name),
    "shipping": (SHIPPING_REQUESTED.name, SHIPPING_CANCEL.name, SHIPPING_RESULT.name),
    "commit": (INVENTORY_COMMIT.name, INVENTORY_RESULT.name),
}
"""Where the commands and results of a saga's step travel."""

_TWO_WORDS = Struct(">2Q").unpack
_UNIT = 2.0**64

RuleId = Annotated[str, Meta(pattern=ID_PATTERN)]
Name = Annotated[str, Meta(max_length=100, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
Share = Annotated[float, Meta(gt=0, le=1)]


class Scope(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a rule is about; what is empty does not narrow it. All that is given must hold."""

    roles: tuple[Name, ...] = ()
    workers: tuple[Name, ...] = ()
    topic: Name = ""
    type: Name = ""
    step: Name = ""
    route: Name = ""
    point: Name = ""

    def targets(self, role: str, worker: str) -> bool:
        """Whether a worker of `role` is to have the rule in force."""
        return (not self.roles or role in self.roles) and (
            not self.workers or worker in self.workers
        )

    @property
    def topics(self) -> frozenset[str]:
        """The topics that it is narrowed to; empty when it is not."""
        if self.topic:
            return frozenset((self.topic,))
        return frozenset(STEP_TOPICS.get(self.step, ()))

    def overlaps(self, other: Scope) -> bool:
        """Whether something can be in the scope of both."""
        mine, theirs = self.topics, other.topics
        return (
            _meet(self.roles, other.roles)
            and _meet(self.workers, other.workers)
            and (not mine or not theirs or bool(mine & theirs))
            and all(
                not one or not another or one == another
                for one, another in (
                    (self.type, other.type),
                    (self.route, other.route),
                    (self.point, other.point),
                )
            )
        )


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One chaos rule as it stands on the topic `chaos.rules`, keyed by `id`.

    `version` is its place in the topic, known once it is published; `epoch` the kill switch's when
    it was made: a higher one ends it. `params` belong to the fault. `ttl_s` bounds its life even
    where a clock is wrong. At most the share `share_max` of all keys can ever be struck.
    """

    id: RuleId
    fault: Name
    scope: Scope = Scope()
    p: Share = 1.0
    nth: Annotated[int, Meta(ge=0, le=NTH_MAX)] = 0
    times: Annotated[int, Meta(ge=0, le=NTH_MAX)] = 0
    params: dict[str, Any] = {}
    seed: Annotated[int, Meta(ge=0, le=SEED_MAX)] = 0
    ttl_s: Annotated[float, Meta(gt=0)]
    expires_at: Annotated[datetime, Meta(tz=True)]
    owner: Name = ""
    reason: Annotated[str, Meta(max_length=200)] = ""
    share_max: Share = 1.0
    unsafe: bool = False
    epoch: int = 0
    version: int = 0


def encode(rule: Rule) -> bytes:
    """Return the value of a rule's record."""
    return msgspec.json.encode(msgspec.structs.replace(rule, version=0))


def decode(value: bytes, version: int) -> Rule:
    """Return the rule of a record that ends at `version`; raises ValueError with what is wrong."""
    rule = _DECODER.decode(value)
    return msgspec.structs.replace(rule, version=version)


_DECODER = msgspec.json.Decoder(Rule)


def draw(
    seed: int, rule_id: str, topic: str, key: bytes, attempt: int, event: str = ""
) -> tuple[float, float]:
    """Return two numbers in [0, 1): the luck of the key, and the luck of this very passing.

    The first is of the key alone, so that a bound on keys holds over all topics and attempts.
    """
    head = f"{seed}\x00{rule_id}\x00".encode()
    (of_key, _) = _TWO_WORDS(blake2b(head + key, digest_size=16).digest())
    tail = f"\x00{topic}\x00{attempt}\x00{event}".encode()
    (of_this, _) = _TWO_WORDS(blake2b(head + key + tail, digest_size=16).digest())
    return of_key / _UNIT, of_this / _UNIT


def _meet(mine: tuple[str, ...], theirs: tuple[str, ...]) -> bool:
    return not mine or not theirs or not set(mine).isdisjoint(theirs)
