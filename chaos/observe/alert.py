"""What an alert is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from chaos.observe.scale import Scale

Severity = Literal["page", "ticket"]
Area = Literal[
    "api", "chaos", "consumers", "database", "dead_letters", "observability", "outbox", "payments",
    "sagas", "slo", "stock", "workers",
]  # fmt: skip

MINUTE_S = 60
HOUR_S = 3600


class Alert(NamedTuple):
    """One alert at every time scale.

    `severity`: a *page* wakes a person, because customers are hurt, data wait for a hand, or
    nobody would notice the next failure; a *ticket* waits for the morning. `symptom`: a ticket that
    says what a page of its `area` says already; that page silences it, and no other ticket: what
    may be the cause is told. `expression` is the PromQL for a scale, `for_s` how long it must
    hold at scale 1 (s). `summary` and `description` are Prometheus templates over the labels that
    the expression leaves. `runbook` is the anchor of its entry in RUNBOOK.md. `on_no_data`: whether
    it is there for missing data; every other one is silent then.
    """

    name: str
    severity: Severity
    area: Area
    expression: Callable[[Scale], str]
    for_s: int
    summary: str
    description: str
    runbook: str
    on_no_data: bool = False
    symptom: bool = False

    def hold_s(self, scale: Scale) -> int:
        """How long the expression must hold before it fires (s)."""
        return scale.seconds(self.for_s)
