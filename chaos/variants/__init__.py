"""Versions of the payment code for the canary to deploy: `payment_variant`, in a lab only.

Plug-in of every worker of a lab; it changes a worker of role payment-canary, and nothing while the
variant is stable. None of them charges twice or keeps money that nobody accounts for: they sit in
front of the gateway's client, under the same idempotency key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.observability.logging import get_log
from chaos.variants.payment import VARIANTS

if TYPE_CHECKING:
    from app.delivery import App

log = get_log(__name__)


def install(app: App) -> None:
    """Give a canary worker the client of its variant."""
    variant = app.settings.payment_variant
    if app.role.name != "payment-canary" or variant == "stable":
        return
    for runner in app.runners:
        runner.spec.handler._gateway.__class__ = VARIANTS[variant]
    log.warning("variant.installed", variant=variant)
