"""Whether a chaos rule may be made: everything that can be known to be wrong with it; pure.

A rule that passes can be taken up by every worker that it is for. Checked are its values, its
names, its lease, its blast radius, what it would lose for ever, and the rules beside it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from app.failpoints import POINTS
from app.messages import CATALOGUE as MESSAGES
from app.roles import ROLES
from app.topics import CATALOGUE as TOPICS
from app.topics import CHAOS_INJECTED, MESSAGE_TOPICS
from chaos.control.rule import STEP_TOPICS, Rule, Scope

if TYPE_CHECKING:
    from app.settings import Settings
    from chaos.faults.kinds import Kind

TYPES: Final = {body.ce_type(): body.TOPICS for body in MESSAGES.values()}
"""Topics by message type."""
STRIKABLE: Final = frozenset(MESSAGE_TOPICS) - {CHAOS_INJECTED.name}
LOSS: Final = (
    "what it strikes on {topics} is lost for ever, because nobody sends it again, and the audit"
    " will report it lost"
)


class Wrong(ValueError):
    """A rule may not be made; `pointer` is the member that is wrong, `conflict` whether only
    because of another rule."""

    def __init__(self, detail: str, pointer: str = "$", *, conflict: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.pointer = pointer
        self.conflict = conflict


class Known(NamedTuple):
    """What a rule may name."""

    kinds: Mapping[str, Kind]
    unsafe_to_lose: frozenset[str]
    routes: Collection[str]


def check(rule: Rule, known: Known, settings: Settings, now: datetime) -> str:
    """Return a warning, or nothing, for a rule that may be made; raises Wrong for another."""
    kind = known.kinds.get(rule.fault)
    if kind is None:
        raise Wrong(f"unknown fault {rule.fault!r}; known: {_listed(known.kinds)}", "$.fault")
    try:
        kind.read_params(rule.params)
    except ValueError as error:
        raise Wrong(str(error), "$.params") from None
    _check_lease(rule, settings, now)
    if rule.share_max > settings.chaos_share_max:
        raise Wrong(
            f"shareMax {rule.share_max:g} is above chaos_share_max = {settings.chaos_share_max:g}",
            "$.shareMax",
        )
    if rule.nth and rule.times > 1:
        raise Wrong("nth strikes once: times cannot be above 1 beside it", "$.times")
    _check_scope(rule.scope, kind, known)
    return _check_loss(rule, kind, known)


def check_beside(rule: Rule, others: Iterable[Rule], kinds: Mapping[str, Kind]) -> None:
    """Raise Wrong when `rule` contradicts one of `others`, its own older version aside.

    Two rules contradict each other when both would decide the fate of one and the same thing:
    faults that exclude each other, overlapping scopes, and shares that sum to more than all.
    """
    kind = kinds[rule.fault]
    mine = _aim(rule, kind)
    for other in others:
        if other.id == rule.id or other.fault not in kinds:
            continue
        theirs = kinds[other.fault]
        excluded = other.fault in kind.conflicts or rule.fault in theirs.conflicts
        if excluded and _share(rule) + _share(other) > 1 and mine.overlaps(_aim(other, theirs)):
            raise Wrong(
                f"rule {other.id} ({other.fault}, of {other.owner or 'nobody'}) is in conflict:"
                f" both would strike the same ones; delete it, wait until"
                f" {other.expires_at:%H:%M:%S}, or narrow the scope or p of one",
                "$",
                conflict=True,
            )


def roles_of(rule: Rule, kind: Kind) -> tuple[str, ...]:
    """The roles whose workers are to have the rule in force."""
    possible = kind.roles or frozenset(ROLES)
    return tuple(role for role in (rule.scope.roles or sorted(possible)) if role in possible)


def _check_lease(rule: Rule, settings: Settings, now: datetime) -> None:
    left_s = (rule.expires_at - now).total_seconds()
    if left_s <= 0:
        raise Wrong(f"the lease is over already: it ended at {rule.expires_at}", "$.expiresAt")
    if left_s > settings.chaos_rule_ttl_max_s:
        raise Wrong(
            f"a lease of {left_s:g} s is longer than chaos_rule_ttl_max_s ="
            f" {settings.chaos_rule_ttl_max_s:g}",
            "$.ttlS",
        )


def _check_scope(scope: Scope, kind: Kind, known: Known) -> None:
    for role in scope.roles:
        if role not in ROLES:
            raise Wrong(f"unknown role {role!r}; known: {_listed(ROLES)}", "$.scope.roles")
        if kind.roles and role not in kind.roles:
            raise Wrong(
                f"fault {kind.name} does not show in role {role}; it does in {_listed(kind.roles)}",
                "$.scope.roles",
            )
    names: tuple[tuple[str, str, Iterable[str]], ...] = (
        ("topic", scope.topic, STRIKABLE),
        ("type", scope.type, TYPES),
        ("step", scope.step, STEP_TOPICS),
        ("route", scope.route, known.routes),
        ("point", scope.point, POINTS),
    )
    for member, value, possible in names:
        if not value:
            continue
        pointer = f"$.scope.{member}"
        if member == "topic" and value in TOPICS and value not in STRIKABLE:
            raise Wrong(f"messages of {value} cannot be struck", pointer)
        if value not in possible:
            raise Wrong(f"unknown {member} {value!r}; known: {_listed(possible)}", pointer)
        if member not in kind.scope:
            takes = _listed({"roles", "workers", *kind.scope})
            raise Wrong(f"fault {kind.name} knows no {member}; it takes {takes}", pointer)
    topics = _topics(scope)
    if topics is not None and not topics:
        raise Wrong("topic, type and step have nothing in common", "$.scope")


def _check_loss(rule: Rule, kind: Kind, known: Known) -> str:
    if not kind.loses:
        return ""
    topics = _topics(rule.scope)
    lost = (STRIKABLE if topics is None else topics) & known.unsafe_to_lose
    if not lost:
        return ""
    if rule.unsafe:
        return LOSS.format(topics=_listed(lost))
    if topics is None:
        return ""  # it spares them by itself
    raise Wrong(
        f"fault {kind.name}: {LOSS.format(topics=_listed(lost))}; say unsafe: true if that is"
        " wanted",
        "$.unsafe",
    )


def _topics(scope: Scope) -> frozenset[str] | None:
    """The topics that a scope is narrowed to, None when it is not."""
    if not scope.topic and not scope.step and not scope.type:
        return None
    topics = STRIKABLE
    if scope.topic:
        topics &= {scope.topic}
    if scope.step:
        topics &= frozenset(STEP_TOPICS.get(scope.step, ()))
    if scope.type:
        topics &= frozenset(TYPES.get(scope.type, ()))
    return topics


def _aim(rule: Rule, kind: Kind) -> Scope:
    scope = rule.scope
    return Scope(
        roles=roles_of(rule, kind),
        workers=scope.workers,
        topic=scope.topic,
        type=scope.type,
        step=scope.step,
        route=scope.route,
        point=scope.point,
    )


def _share(rule: Rule) -> float:
    """How much of what passes may be struck; single strikes are no share."""
    return 0.0 if rule.nth or rule.times else rule.p


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
