"""Plug-in for a worker of a lab: strikes with faults at failpoints by the rules of `failpoints`.

Guarantees: every strike is counted and logged before it happens. Does nothing without rules, and
is never loaded outside a lab (`app.factory`). The grammar stands in `chaos.rules`.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from app import failpoints
from app.observability import metrics
from app.observability.logging import get_log
from chaos.rules import Rule, Selector, parse_rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.delivery import App
    from app.failpoints import Action, Hit

log = get_log(__name__)


def install(app: App) -> None:
    """Arm the rules of the setting `failpoints`. Raises chaos.rules.BadRule."""
    arm(parse_rules(app.settings.failpoints))


def arm(rules: Sequence[Rule]) -> None:
    """Put `rules` at their failpoints, several at one point in the order given."""
    by_point: dict[str, list[Rule]] = defaultdict(list)
    for rule in rules:
        by_point[rule.point].append(rule)
    for point, listed in by_point.items():
        failpoints.install(point, _action(listed))
        log.info("fault.armed", point=point, rules=[str(rule) for rule in listed])


def _action(rules: Sequence[Rule]) -> Action:
    armed = [(rule, Selector(rule), rule.strike()) for rule in rules]

    async def act(hit: Hit) -> None:
        # every rule sees every hit, even when an earlier one raises
        striking = [one for one in armed if one[1].strikes(hit)]
        for rule, selector, strike in striking:
            metrics.FAULTS_INJECTED.child(rule.point, rule.fault).inc()
            log.warning("fault.injected", point=rule.point, fault=rule.fault, hit=selector.hits)
            await strike(hit)

    return act
