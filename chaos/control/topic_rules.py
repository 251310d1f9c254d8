"""The short form of rules, keyed by topic: {pDrop, pDup, maxDelayMs, pCorrupt}; pure.

Each member that is above 0 is a rule of its own, `<topic>:drop` and so on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from chaos.control.bodies import RuleIn, TopicRuleIn, TopicRuleOut
from chaos.control.rule import Rule, Scope

FAULTS: Final = ("drop", "duplicate", "delay", "corrupt")
TTL_S: Final = 600.0


def rules_of(topic: str, short: TopicRuleIn) -> list[RuleIn]:
    """The rules that the short form stands for."""
    shares = {
        "drop": short.p_drop,
        "duplicate": short.p_dup,
        "delay": 1.0 if short.max_delay_ms else 0.0,
        "corrupt": short.p_corrupt,
    }
    return [
        RuleIn(
            fault=fault,
            id=id_of(topic, fault),
            scope=Scope(topic=topic),
            p=share,
            params={"min_ms": 0.0, "max_ms": short.max_delay_ms} if fault == "delay" else {},
            ttl_s=short.ttl_s or TTL_S,
            reason=short.reason,
            unsafe=short.unsafe,
        )
        for fault, share in shares.items()
        if share
    ]


def ids_of(topic: str) -> tuple[str, ...]:
    """The ids that the rules of a topic's short form can have."""
    return tuple(id_of(topic, fault) for fault in FAULTS)


def id_of(topic: str, fault: str) -> str:
    """The id of one of them."""
    return f"{topic}:{fault}"


def short_forms(rules: Iterable[Rule]) -> dict[str, TopicRuleOut]:
    """What rules about a topic as a whole come to, by topic."""
    found: dict[str, dict[str, float]] = {}
    for rule in rules:
        if not rule.scope.topic or rule.fault not in FAULTS:
            continue
        short = found.setdefault(rule.scope.topic, {})
        if rule.fault == "delay":
            longest = float(rule.params.get("max_ms", 0.0))
            short["max_delay_ms"] = max(short.get("max_delay_ms", 0.0), longest)
        else:
            name = {"drop": "p_drop", "duplicate": "p_dup", "corrupt": "p_corrupt"}[rule.fault]
            short[name] = max(short.get(name, 0.0), rule.p)
    return {topic: TopicRuleOut(**short) for topic, short in found.items()}
