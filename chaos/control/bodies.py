"""What the API of chaos rules takes and answers."""

from __future__ import annotations

from datetime import datetime, timedelta
from secrets import randbelow, token_hex
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from chaos.control.check import Wrong
from chaos.control.rule import NTH_MAX, SEED_MAX, Name, Rule, RuleId, Scope, Share

if TYPE_CHECKING:
    from app.settings import Settings

Reason = Annotated[str, Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
Number = Annotated[int, Meta(ge=0, le=NTH_MAX)]
Seconds = Annotated[float, Meta(gt=0, le=10**6)]
Chance = Annotated[float, Meta(ge=0, le=1)]


class RuleIn(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A rule to make. Its lease is `ttlS` seconds or until `expiresAt`; one must be given. Without
    an `id` or a `seed` it gets new ones, which the answer tells."""

    fault: Name
    id: RuleId | None = None
    scope: Scope = Scope()
    p: Share = 1.0
    nth: Number = 0
    times: Number = 0
    params: dict[str, Any] = {}
    seed: Annotated[int, Meta(ge=0, le=SEED_MAX)] | None = None
    ttl_s: Seconds | None = None
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None
    owner: Name = ""
    reason: Reason = ""
    share_max: Share | None = None
    unsafe: bool = False


class TopicRuleIn(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What is to happen to the messages of a topic: shares that are dropped, doubled, delayed (all,
    by up to `maxDelayMs`) and damaged. Each that is above 0 becomes a rule."""

    p_drop: Chance = 0.0
    p_dup: Chance = 0.0
    max_delay_ms: Annotated[float, Meta(ge=0, le=5000)] = 0.0
    p_corrupt: Chance = 0.0
    ttl_s: Seconds | None = None
    reason: Reason = ""
    unsafe: bool = False


class TopicRuleOut(msgspec.Struct, frozen=True, rename="camel"):
    """The same as it is in force now."""

    p_drop: float = 0.0
    p_dup: float = 0.0
    max_delay_ms: float = 0.0
    p_corrupt: float = 0.0


class RuleOut(msgspec.Struct, frozen=True, rename="camel"):
    """A rule as it was published; `version` is its place in the topic."""

    id: str
    fault: str
    scope: Scope
    p: float
    nth: int
    times: int
    params: dict[str, Any]
    seed: int
    ttl_s: float
    expires_at: datetime
    owner: str
    reason: str
    share_max: float
    unsafe: bool
    epoch: int
    version: int


class Changed(msgspec.Struct, frozen=True, rename="camel"):
    """What a change came to. `enabled`: every worker that it is for said that it has it in force
    (or has it no more); `pending` are those that did not say so in time, `reasons` why, by worker.
    """

    enabled: bool
    version: int
    rules: list[RuleOut]
    deleted: list[str]
    workers: list[str]
    pending: list[str]
    reasons: dict[str, str] = {}
    warning: str = ""


class RulesOut(msgspec.Struct, frozen=True):
    """All rules that have not ended, and what they come to topic by topic."""

    rules: list[RuleOut]
    topics: dict[str, TopicRuleOut]


class KillIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why the switch is thrown."""

    reason: Reason = ""


class SwitchOut(msgspec.Struct, frozen=True, rename="camel"):
    """The kill switch: rules of a lower epoch are dead. It was thrown last by `thrownBy`."""

    epoch: int
    thrown_by: str
    reason: str
    thrown_at: datetime | None


class InForceOut(msgspec.Struct, frozen=True, rename="camel"):
    """A rule in one worker: whether it has this version, and its hits there."""

    worker: str
    in_force: bool
    seen: int
    struck: int


class RuleStatus(msgspec.Struct, frozen=True, rename="camel"):
    """A rule, whether it is in force wherever it is to be, and its hits. `refused` is by worker."""

    rule: RuleOut
    enabled: bool
    expires_in_s: float
    hits: int
    workers: list[InForceOut]
    refused: dict[str, str]


class WorkerStatus(msgspec.Struct, frozen=True, rename="camel"):
    """A worker that lives: how far it has read the rules, and when it said so last (None: not
    lately)."""

    worker: str
    role: str
    version: int | None
    said_at: datetime | None


class StatusOut(msgspec.Struct, frozen=True, rename="camel"):
    """Chaos rules as a whole; `version` is what this server has read of them."""

    switch: SwitchOut
    kafka: bool
    version: int
    rules: list[RuleStatus]
    workers: list[WorkerStatus]


class KindOut(msgspec.Struct, frozen=True, rename="camel"):
    """A fault kind: what a rule's `params` and `scope` may hold, and in which roles it shows."""

    name: str
    meaning: str
    params: dict[str, Any]
    scope: list[str]
    roles: list[str]
    conflicts: list[str]
    loses: bool


class KindsOut(msgspec.Struct, frozen=True):
    """All fault kinds."""

    kinds: list[KindOut]


def rule_out(rule: Rule) -> RuleOut:
    """Return the JSON form of a rule."""
    return RuleOut(**{name: getattr(rule, name) for name in RuleOut.__struct_fields__})


def rule_of(
    wanted: RuleIn, actor: str, reason: str, epoch: int, now: datetime, settings: Settings
) -> Rule:
    """Return the rule that is asked for, with what was left open filled in; raises Wrong."""
    if (wanted.ttl_s is None) == (wanted.expires_at is None):
        raise Wrong("a rule needs a lease: either ttlS or expiresAt", "$.ttlS")
    if wanted.expires_at is not None:
        expires_at = wanted.expires_at
        ttl_s = max((expires_at - now).total_seconds(), 1e-3)
    else:
        assert wanted.ttl_s is not None
        expires_at, ttl_s = now + timedelta(seconds=wanted.ttl_s), wanted.ttl_s
    return Rule(
        id=wanted.id or f"{wanted.fault}-{token_hex(4)}",
        fault=wanted.fault,
        scope=wanted.scope,
        p=wanted.p,
        nth=wanted.nth,
        times=wanted.times,
        params=wanted.params,
        seed=randbelow(SEED_MAX) if wanted.seed is None else wanted.seed,
        ttl_s=ttl_s,
        expires_at=expires_at,
        owner=wanted.owner or actor,
        reason=wanted.reason or reason,
        share_max=settings.chaos_share_max if wanted.share_max is None else wanted.share_max,
        unsafe=wanted.unsafe,
        epoch=epoch,
    )
