"""Scoring the orders of one transaction for fraud, before they are stored.

Guarantees: an order counts for the velocity of every later one of its customer, also within a batch
and beside another process; a batch that is tried again is screened as it was stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from app.db import intake, reviews
from app.domain.fraud import Action, Order, Policy, Verdict, judge
from app.observability import metrics
from web.api.money import EXPONENTS

if TYPE_CHECKING:
    from datetime import datetime

    from app.db.engine import Transaction
    from app.settings import Settings

PENDING: Final = "PENDING"
REVIEW: Final = "REVIEW"
REJECTED: Final = "REJECTED"
RULES: Final = "fraud rules"
"""Who rejected an order that no person looked at."""

STATUS_OF: Final = {Action.ACCEPT: PENDING, Action.REVIEW: REVIEW, Action.REJECT: REJECTED}


class Screening(NamedTuple):
    """What a new order is told: its first status, and its score when that is not PENDING."""

    status: str
    review: reviews.NewReview | None


ACCEPTED: Final = Screening(PENDING, None)


class Candidate(Protocol):
    """What is screened of an order."""

    @property
    def order_id(self) -> str:
        """The order's id."""

    @property
    def customer_id(self) -> str:
        """Whose order it is."""

    @property
    def total_minor(self) -> int:
        """Its total."""

    @property
    def currency(self) -> str:
        """The currency of the total."""

    @property
    def key(self) -> str:
        """Its idempotency key, or nothing."""

    @property
    def at(self) -> datetime:
        """When it was received."""


class Screen:
    """The fraud rules of the settings; None of them when `fraud_checks` is off."""

    def __init__(self, settings: Settings) -> None:
        self._policy = policy_of(settings)
        self._on = settings.fraud_checks
        self._window = timedelta(minutes=self._policy.velocity_window_min)

    async def screen(
        self, tx: Transaction, orders: Sequence[Candidate], *, again: bool
    ) -> dict[str, Screening]:
        """Return the screening of each of `orders` by its id; holds their customers until the end.

        With `again` an earlier try may have stored some: these keep what they were told.
        """
        if not self._on or not orders:
            return dict.fromkeys((order.order_id for order in orders), ACCEPTED)
        ids = [order.order_id for order in orders]
        customers = [order.customer_id for order in orders]
        since = min(order.at for order in orders) - self._window
        most = self._policy.velocity_max
        earlier = Counter(await reviews.velocity(tx, customers, since, most, ids))
        repeated = await _repeated(tx, orders)
        known = await reviews.told(tx, ids) if again else {}
        screened: dict[str, Screening] = {}
        for order in orders:
            found = screening(order, earlier[order.customer_id], self._policy)
            told = known.get(order.order_id, found.status)
            screened[order.order_id] = found._replace(status=told)
            if order.order_id not in repeated:
                earlier[order.customer_id] += 1
        return screened


async def _repeated(tx: Transaction, orders: Sequence[Candidate]) -> set[str]:
    """Those of `orders` that repeat a key and will not be stored, so must not count for others.

    Nobody need know where no customer has several requests in the batch. The customers are held, so
    what is claimed now was claimed before.
    """
    requests = Counter(order.customer_id for order in orders)
    keyed = [order for order in orders if order.key and requests[order.customer_id] > 1]
    if not keyed:
        return set()
    keys = await intake.known_keys(tx, [order.key for order in keyed])
    repeated = set()
    for order in keyed:
        if order.key in keys:
            repeated.add(order.order_id)
        keys.add(order.key)
    return repeated


def screening(order: Candidate, earlier: int, policy: Policy) -> Screening:
    """Return what an order is told after `earlier` orders of its customer."""
    minor_per_major = 10 ** EXPONENTS.get(order.currency, 2)
    verdict = judge(Order(order.total_minor, minor_per_major, earlier, order.at), policy)
    if verdict.action is Action.ACCEPT:
        return ACCEPTED
    return Screening(STATUS_OF[verdict.action], _review_of(order, verdict))


def count(statuses: Mapping[str, int]) -> None:
    """Count stored orders by the status they were told."""
    metrics.FRAUD_SCANNED.child().inc(sum(statuses.values()))
    metrics.FRAUD_FLAGGED.child().inc(statuses.get(REVIEW, 0))
    metrics.FRAUD_AUTO_REJECTED.child().inc(statuses.get(REJECTED, 0))


def policy_of(settings: Settings) -> Policy:
    """Return the weights and thresholds of the settings."""
    return Policy(**{name: getattr(settings, f"fraud_{name}") for name in Policy._fields})


def _review_of(order: Candidate, verdict: Verdict) -> reviews.NewReview:
    return reviews.NewReview(
        order.order_id,
        verdict.score,
        [reason._asdict() for reason in verdict.reasons],
        reviews.AUTO_REJECTED if verdict.action is Action.REJECT else "",
        order.at,
    )
