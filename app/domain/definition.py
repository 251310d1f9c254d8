"""Sagas as data: the steps of an order, in order, and what each one sends, awaits and undoes.

A running saga names its definition, and the definitions here are never edited once sagas of them
exist: a changed order of steps is a new entry, which new sagas use from `Policy.definition` on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from app import ids
from app.messages.inventory import (
    InventoryCommit,
    InventoryRelease,
    InventoryRequested,
    InventoryResult,
    StockLine,
)
from app.messages.payments import PaymentRefund, PaymentRequested, PaymentResult
from app.messages.shipping import ShippingCancel, ShippingRequested, ShippingResult

if TYPE_CHECKING:
    from app.domain.record import Saga

FORWARD = "forward"
COMPENSATION = "compensation"


class State(StrEnum):
    """The states of a saga, which are the statuses of its order."""

    REVIEW = "REVIEW"
    PAYMENT_PENDING = "PAYMENT_PENDING"
    INVENTORY_PENDING = "INVENTORY_PENDING"
    SHIPPING_PENDING = "SHIPPING_PENDING"
    COMMIT_PENDING = "COMMIT_PENDING"
    COMPENSATING = "COMPENSATING"
    PARKED = "PARKED"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"


FINAL: frozenset[State] = frozenset({State.COMPLETED, State.CANCELLED, State.REJECTED})

#: Why an order ended otherwise than COMPLETED, with the words of the reference page.
REASONS: Mapping[str, str] = MappingProxyType(
    {
        "customer": "the customer asked before the shipment was made",
        "operator": "an operator asked before the shipment was made",
        "payment_declined": "the payment provider declined the charge",
        "out_of_stock": "a line could not be held",
        "shipping_refused": "shipping refused the address, after payment",
        "timeout": "a step stayed unanswered through all its re-drives, or could not start in time",
        "fraud": "a reviewer rejected the order",
    }
)


class Kind(StrEnum):
    """Before the pivot everything can be undone; after it everything is repeated until it works."""

    COMPENSATABLE = "compensatable"
    PIVOT = "pivot"
    RETRIABLE = "retriable"


Result = PaymentResult | InventoryResult | ShippingResult
Commanded = (
    PaymentRequested
    | PaymentRefund
    | InventoryRequested
    | InventoryRelease
    | InventoryCommit
    | ShippingRequested
    | ShippingCancel
)


class Compensation(NamedTuple):
    """What undoes a step: its topic, its body, and the operation its result names."""

    topic: str
    operation: str
    build: Callable[[Saga], Commanded]


class Step(NamedTuple):
    """One step: command, success, failures (outcome to the order's reason), compensation, deadline.

    The deadline is in units of `Policy.step_deadline_s`.
    """

    name: str
    kind: Kind
    state: State
    topic: str
    operation: str
    build: Callable[[Saga, datetime], Commanded]
    result: type[Result]
    success: frozenset[str] = frozenset({"OK"})
    failures: Mapping[str, str] = MappingProxyType({})
    compensation: Compensation | None = None
    deadline: float = 1.0


class Definition(NamedTuple):
    """An ordered list of steps with exactly one pivot."""

    name: str
    steps: tuple[Step, ...]

    def problem(self) -> str:
        """Return why this definition cannot work, empty when it can."""
        kinds = [step.kind for step in self.steps]
        if kinds.count(Kind.PIVOT) != 1:
            return "exactly one step must be the pivot"
        pivot = kinds.index(Kind.PIVOT)
        if any(kind is not Kind.COMPENSATABLE for kind in kinds[:pivot]):
            return "every step before the pivot must be compensatable"
        if any(kind is not Kind.RETRIABLE for kind in kinds[pivot + 1 :]):
            return "every step after the pivot must be retriable"
        if any(step.compensation is None for step in self.steps[: pivot + 1]):
            return "every step up to the pivot needs a compensation"
        return ""


def _charge(saga: Saga, not_after: datetime) -> Commanded:
    return PaymentRequested(
        order_id=saga.order_id,
        amount_minor=saga.total_minor,
        currency=saga.currency,
        not_after=not_after,
    )


def _refund(saga: Saga) -> Commanded:
    return PaymentRefund(
        order_id=saga.order_id,
        amount_minor=saga.total_minor,
        currency=saga.currency,
        charge_id=ids.command_id(saga.order_id, "payment", FORWARD),
    )


def _reserve(saga: Saga, not_after: datetime) -> Commanded:
    lines = [StockLine(sku=sku, quantity=quantity) for sku, quantity in saga.lines]
    return InventoryRequested(order_id=saga.order_id, lines=lines, not_after=not_after)


def _release(saga: Saga) -> Commanded:
    return InventoryRelease(order_id=saga.order_id)


def _ship(saga: Saga, not_after: datetime) -> Commanded:
    return ShippingRequested(order_id=saga.order_id, address=saga.address, not_after=not_after)


def _void(saga: Saga) -> Commanded:
    return ShippingCancel(order_id=saga.order_id)


def _consume(saga: Saga, _not_after: datetime) -> Commanded:
    return InventoryCommit(order_id=saga.order_id)


#: Outcomes that mean, for any step, that it did not happen; CANCELLED is a tombstone that only an
#: operator can have left while the saga still goes forward.
_NOT_DONE = {"EXPIRED": "timeout", "CANCELLED": "operator"}

PAYMENT = Step(
    name="payment",
    kind=Kind.COMPENSATABLE,
    state=State.PAYMENT_PENDING,
    topic="payment.requested",
    operation="charge",
    build=_charge,
    result=PaymentResult,
    failures=MappingProxyType({"DECLINED": "payment_declined", **_NOT_DONE}),
    compensation=Compensation("payment.refund", "refund", _refund),
)
INVENTORY = Step(
    name="inventory",
    kind=Kind.COMPENSATABLE,
    state=State.INVENTORY_PENDING,
    topic="inventory.requested",
    operation="reserve",
    build=_reserve,
    result=InventoryResult,
    failures=MappingProxyType({"OUT_OF_STOCK": "out_of_stock", **_NOT_DONE}),
    compensation=Compensation("inventory.release", "release", _release),
)
SHIPPING = Step(
    name="shipping",
    kind=Kind.PIVOT,
    state=State.SHIPPING_PENDING,
    topic="shipping.requested",
    operation="ship",
    build=_ship,
    result=ShippingResult,
    failures=MappingProxyType({"REFUSED": "shipping_refused", **_NOT_DONE}),
    compensation=Compensation("shipping.cancel", "cancel", _void),
)
COMMIT = Step(
    name="commit",
    kind=Kind.RETRIABLE,
    state=State.COMMIT_PENDING,
    topic="inventory.commit",
    operation="commit",
    build=_consume,
    result=InventoryResult,
)

DEFINITIONS: dict[str, Definition] = {
    definition.name: definition
    for definition in (
        Definition("order.v1", (PAYMENT, INVENTORY, SHIPPING, COMMIT)),
        Definition("order-stock-first.v1", (INVENTORY, PAYMENT, SHIPPING, COMMIT)),
    )
}


class Policy(NamedTuple):
    """The bounds of a saga; seconds unless said.

    A command is awaited for `step_deadline_s` times the step's own factor, doubled with every
    re-drive up to `backoff_factor_max`, lengthened by at most `jitter_share`. A participant that
    reports its next attempt is waited for, but at most `retry_wait_max_s`.
    """

    step_deadline_s: float = 10.0
    redrives_max: int = 3
    compensation_attempts_max: int = 5
    backoff_factor_max: int = 4
    jitter_share: float = 0.25
    retry_wait_max_s: float = 3600.0
    definition: str = "order.v1"

    def wait_s(self, step: Step, tries: int, jitter: float = 0.0) -> float:
        """Return how long to wait after the command was sent for the `tries`-th time again."""
        factor = _factors(tries, tries, self.backoff_factor_max)
        return self.step_deadline_s * step.deadline * factor * (1.0 + self.jitter_share * jitter)

    def patience_s(self, step: Step, tries: int) -> float:
        """Return how long until the step would be compensated, were it never answered."""
        factors = _factors(tries, max(tries, self.redrives_max), self.backoff_factor_max)
        return self.step_deadline_s * step.deadline * factors


DEFAULT_POLICY = Policy()


@lru_cache(maxsize=1024)
def _factors(first: int, last: int, factor_max: int) -> int:
    """The sum of the back-off factors of tries `first` to `last`."""
    return sum(min(1 << min(tries, 30), factor_max) for tries in range(first, last + 1))
