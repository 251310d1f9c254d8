"""The table of all alerts. Rules, their reference page and the alert exam come from it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from chaos.observe.alert import Alert
from chaos.observe.alerts_on_orders import (
    API_ALERTS,
    DEAD_LETTER_ALERTS,
    PAYMENT_ALERTS,
    SAGA_ALERTS,
    SLO_ALERTS,
)
from chaos.observe.alerts_on_platform import (
    CONSUMER_ALERTS,
    DATABASE_ALERTS,
    OTHER_ALERTS,
    OUTBOX_ALERTS,
    WORKER_ALERTS,
)

#: Rule groups in the order of their evaluation.
GROUPS: Mapping[str, tuple[Alert, ...]] = MappingProxyType(
    {
        "slo": SLO_ALERTS,
        "api": API_ALERTS,
        "sagas": SAGA_ALERTS,
        "payments": PAYMENT_ALERTS,
        "dead-letters": DEAD_LETTER_ALERTS,
        "workers": WORKER_ALERTS,
        "consumers": CONSUMER_ALERTS,
        "outbox": OUTBOX_ALERTS,
        "database": DATABASE_ALERTS,
        "other": OTHER_ALERTS,
    }
)
ALERTS: tuple[Alert, ...] = tuple(alert for group in GROUPS.values() for alert in group)


def alert_named(name: str) -> Alert:
    """The alert `name`; raises LookupError with the known names."""
    for alert in ALERTS:
        if alert.name == name:
            return alert
    raise LookupError(f"unknown alert {name!r}; known: {', '.join(one.name for one in ALERTS)}")
