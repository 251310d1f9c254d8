"""Which crash point is proven where: every point of the code must stand in exactly one row here.

A point of the delivery core is crashed in by the conformance suite, with every agent that stands on
it; the others by `test_crash_points.py`, in a lab with all roles.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.conformance.subjects import SUBJECTS, TICK_POINTS

CONFORMANCE = frozenset(point for one in SUBJECTS.values() for point in one.points) | {*TICK_POINTS}


class Death(NamedTuple):
    """A worker dies at `point`; `by` names what makes it come by (a method of the lab's driver).

    `rules` are armed beside the crash, `settings` are the worker's for this one life.
    """

    worker: str
    point: str
    by: str = "order"
    rules: str = ""
    settings: tuple[tuple[str, str], ...] = ()


#: Deaths of one round happen in one go, of different roles.
ROUNDS: tuple[tuple[Death, ...], ...] = (
    (
        Death("web-1", "web.before_transaction"),
        Death("relay-1", "relay.before_connect", by="start"),
        Death("orchestrator-1", "worker.before_start", by="start"),
        Death("shipping-1", "delivery.before_transaction"),
    ),
    (
        Death("web-1", "web.before_commit"),
        Death("relay-1", "relay.before_renew", by="start"),
        Death("shipping-1", "delivery.after_journal"),
    ),
    (
        Death("web-1", "web.after_commit"),
        Death("relay-1", "relay.before_renew_commit", by="start"),
        Death("shipping-1", "delivery.before_journal_close"),
    ),
    (
        Death("web-1", "web.before_cancel_commit", by="cancel"),
        Death("relay-1", "relay.after_renew", by="start"),
        Death("shipping-1", "worker.before_stop", by="stop"),
    ),
    (
        Death("web-1", "web.after_cancel_commit", by="cancel"),
        Death("relay-1", "relay.before_publish"),
    ),
    (
        Death("relay-1", "relay.before_flush"),
        Death(
            "inventory-1",
            "delivery.before_move",
            rules="delivery.in_transaction=error:gateway_unavailable",
        ),
    ),
    (
        Death("relay-1", "relay.after_publish"),
        Death("inventory-1", "delivery.before_drain", by="join"),
    ),
    (
        Death("relay-1", "relay.after_delete"),
        Death("inventory-1", "delivery.while_held", by="lock"),
    ),
    (
        Death("relay-1", "relay.after_delete_commit"),
        Death("orchestrator-1", "orchestrator.before_reload", by="stray"),
        Death("payment-1", "gateway.before_retry", by="gateway_error"),
    ),
    (
        Death("dlq-1", "delivery.while_waiting", by="gateway_error"),
        Death(
            "orchestrator-1",
            "orchestrator.after_idle",
            by="gateway_error",
            settings=(("SAGA_IDLE_REDRIVE_S", "1"),),
        ),
    ),
    (
        Death(
            "payment-1",
            "payment.between_cancel_and_refund",
            by="cancel_unknown",
            settings=(("RETRY_TIERS_S", "5"), ("GATEWAY_ATTEMPTS_MAX", "1")),
        ),
    ),
    (
        Death("relay-1", "relay.before_leave", by="stop"),
        Death("shipping-1", "delivery.after_resume", by="start"),
    ),
)
PLATFORM = frozenset(death.point for deaths in ROUNDS for death in deaths)
REDRIVE = frozenset(
    {"dlq.after_claim", "dlq.before_redrive", "dlq.after_redrive", "dlq.after_delete"}
)
"""Where a job on dead letters may die: tests/integration/test_redrive.py."""
