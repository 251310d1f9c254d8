"""Every role once: its modules, and what it needs of Kafka.

A worker loads only its role's modules, and so declares only its role's agents and tables: one
consumer group per role, because different subscriptions under one application id break Faust's
assignment and table locality (docs/adr/0002).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Role(NamedTuple):
    """`modules` are imported and their `register(app)` called, in order.

    `tables` are the changelog-backed tables that the role owns; `consumes` makes it a member of
    the consumer group `<namespace>-<name>`, `produces` gives it a Kafka producer.
    An `optional` role runs where it is asked for only, a `lab_only` one never outside a lab.
    `fetch_pace_ms` replaces the setting: whoever answers the orchestrator polls as soon as records
    are there, for they come in the bursts of its steps (docs/adr/0008); nobody waits
    for `dlq`, `notification` and `slo`.
    """

    name: str
    modules: tuple[str, ...]
    meaning: str
    tables: tuple[str, ...] = ()
    consumes: bool = True
    produces: bool = True
    lab_only: bool = False
    fetch_pace_ms: int | None = None
    optional: bool = False

    @property
    def standard(self) -> bool:
        """Whether every platform needs it."""
        return not self.lab_only and not self.optional


AT_ONCE_MS = 5

ROLES: Mapping[str, Role] = MappingProxyType(
    {
        role.name: role
        for role in (
            Role(
                "web",
                ("web.role",),
                "public API and pages; serves without Kafka",
                consumes=False,
                produces=False,
            ),
            Role(
                "relay",
                ("agents.relay",),
                "publishes the outbox to Kafka",
                consumes=False,
            ),
            Role(
                "orchestrator",
                ("agents.orchestrator",),
                "drives every order's saga",
                tables=("sagas",),
            ),
            Role(
                "payment",
                ("agents.payment",),
                "charges and refunds through the payment gateway",
                tables=("payment_idempotency",),
                fetch_pace_ms=AT_ONCE_MS,
            ),
            Role(
                "payment-canary",
                ("agents.payment_canary",),
                "a new version of role payment, for a share of the orders",
                tables=("payment_idempotency",),
                fetch_pace_ms=AT_ONCE_MS,
                optional=True,
            ),
            Role(
                "inventory",
                ("agents.inventory",),
                "reserves, releases and commits stock",
                tables=("inventory_idempotency",),
                fetch_pace_ms=AT_ONCE_MS,
            ),
            Role(
                "shipping",
                ("agents.shipping",),
                "ships orders and voids shipments",
                tables=("shipping_idempotency",),
                fetch_pace_ms=AT_ONCE_MS,
            ),
            Role(
                "notification",
                ("agents.notification",),
                "tells customers and operators what happened",
                fetch_pace_ms=500,
            ),
            Role(
                "dlq",
                ("agents.dlq",),
                "re-delivers due retries and indexes dead letters",
                fetch_pace_ms=500,
            ),
            Role(
                "slo",
                ("agents.slo",),
                "counts what the service level objectives are judged by, and takes the census",
                tables=("slo_panes",),
                fetch_pace_ms=500,
            ),
            Role(
                "gameday",
                ("chaos.gameday.role",),
                "executes queued GameDays",
                consumes=False,
                produces=False,
                lab_only=True,
            ),
            Role(
                "probe",
                ("agents.probe",),
                "numbered events through all six steps, for the rebalance ledger",
                tables=("probe", "probe_idempotency"),
                lab_only=True,
            ),
        )
    }
)


def role_named(name: str) -> Role:
    """The role `name`; raises LookupError with the known names."""
    try:
        return ROLES[name]
    except KeyError:
        known = ", ".join(ROLES)
        raise LookupError(f"unknown role {name!r}; known roles: {known}") from None
