"""When a fault strikes: rules as text, and the selection they describe, pure and repeatable.

    rules     = rule {("," | newline) rule}
    rule      = failpoint "=" fault [":" argument] {";" parameter "=" value}
    fault     = crash | error [":" code] | delay ":" time | hang        (chaos.faults)
    parameter = nth (only the n-th hit, from 1) | times (so often at most)
              | p (with this probability) | seed (of p; default 0)
              | match (only while an event with this key passes)

Given the same hits, a rule always selects the same ones.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from app.failpoints import POINTS, POINTS_WITH_EVENTS, Hit
from chaos.faults import BadFault, Strike, build


class BadRule(ValueError):
    """A rule cannot be read; the message names the rule and what is wrong with it."""


@dataclass(frozen=True)
class Rule:
    """One parsed rule; `nth` and `times` are 0 when they do not limit, `match` may be empty."""

    point: str
    fault: str
    argument: str = ""
    nth: int = 0
    times: int = 0
    p: float = 1.0
    seed: int = 0
    match: bytes = b""

    def strike(self) -> Strike:
        """Make the rule's fault."""
        return build(self.fault, self.argument)


class Selector:
    """Decides hit by hit whether its rule strikes."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._random = random.Random(rule.seed)
        self.hits = 0
        self.struck = 0

    def strikes(self, hit: Hit) -> bool:
        """Whether the fault strikes at this hit; counts hits that match."""
        rule = self._rule
        if rule.match and all(event.key != rule.match for event in hit.events):
            return False
        self.hits += 1
        lucky = rule.p >= 1.0 or self._random.random() < rule.p
        if (rule.nth and self.hits != rule.nth) or (rule.times and self.struck >= rule.times):
            return False
        self.struck += lucky
        return lucky


def parse_rules(text: str) -> list[Rule]:
    """Read the setting `failpoints`. Raises BadRule."""
    return [_parse(part.strip()) for part in re.split(r"[,\n]", text) if part.strip()]


def _parse(text: str) -> Rule:
    head, *parameters = (part.strip() for part in text.split(";"))
    point, equals, fault = (part.strip() for part in head.partition("="))
    if not equals or not fault:
        raise BadRule(f"{text!r}: expected failpoint=fault, like delivery.after_commit=crash")
    if point not in POINTS:
        raise BadRule(f"{text!r}: unknown failpoint {point!r}; known: {', '.join(sorted(POINTS))}")
    name, _, argument = fault.partition(":")
    values = dict[str, int | float | bytes]()
    for parameter in parameters:
        key, _, value = (part.strip() for part in parameter.partition("="))
        if key in values:
            raise BadRule(f"{text!r}: parameter {key} is given twice")
        values[key] = _value(text, key, value)
    if values.get("match") and point not in POINTS_WITH_EVENTS:
        known = ", ".join(sorted(POINTS_WITH_EVENTS))
        raise BadRule(f"{text!r}: no events pass {point}; match works at {known}")
    rule = Rule(point, name, argument, **values)  # type: ignore[arg-type]  # by name, see _value
    try:
        rule.strike()
    except BadFault as error:
        raise BadRule(f"{text!r}: {error}") from None
    return rule


def _value(text: str, key: str, value: str) -> int | float | bytes:
    try:
        match key:
            case "nth" | "times":
                number = int(value)
                if number < 1:
                    raise ValueError
                return number
            case "seed":
                return int(value)
            case "p":
                chance = float(value)
                if not 0 < chance <= 1:
                    raise ValueError
                return chance
            case "match" if value:
                return value.encode()
            case "match":
                raise ValueError
    except ValueError:
        wanted = {"p": "above 0 and at most 1", "match": "a key", "seed": "a whole number"}
        raise BadRule(
            f"{text!r}: {key} must be {wanted.get(key, 'a whole number from 1')}, got {value!r}"
        ) from None
    raise BadRule(f"{text!r}: unknown parameter {key!r}; known: nth, times, p, seed, match")
