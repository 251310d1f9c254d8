"""What was read, before anything is judged: plain facts of the four sources.

`None` for a source means that it could not be read; `unread` says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

COMPLETED, CANCELLED, REJECTED, PARKED = "COMPLETED", "CANCELLED", "REJECTED", "PARKED"
FINAL = frozenset({COMPLETED, CANCELLED, REJECTED})


class Request(NamedTuple):
    """One request of a load: what was asked and what is known of the answer.

    `outcome`: ok, fail (surely no effect) or unknown. `expected` is the class, empty when nobody
    foresaw how the order ends.
    """

    op: str
    kind: str
    outcome: str
    expected: str
    idempotency_key: str
    order_id: str
    detail: str = ""


class Order(NamedTuple):
    """One row of orders.orders with the state and reason of its saga, PENDING without one."""

    order_id: str
    status: str
    reason: str
    total_minor: int
    currency: str


class Saga(NamedTuple):
    """One row of orders.saga; `terminal` means that nothing is outstanding."""

    order_id: str
    state: str
    version: int
    terminal: bool


class Step(NamedTuple):
    """One line of an order's history, in the order of writing; the API's lines have no event."""

    order_id: str
    event: str
    status: str
    version: int


class Payment(NamedTuple):
    """One row of payments.payment_attempt."""

    order_id: str
    status: str
    charge_id: str
    amount_minor: int
    currency: str


class Stock(NamedTuple):
    """One row of inventory.stock; `restocked` is every unit ever put in."""

    sku: str
    available: int
    held: int
    consumed: int
    restocked: int


class Snapshot(NamedTuple):
    """PostgreSQL at one instant. `items` and `reserved` are units by order and SKU (tracked only);
    `keys` maps an idempotency key to its order; `waiting` and `parked` are outbox rows by topic.
    """

    orders: Mapping[str, Order]
    sagas: Mapping[str, Saga]
    history: Mapping[str, Sequence[Step]]
    items: Mapping[str, Mapping[str, int]]
    keys: Mapping[str, str]
    payments: Mapping[str, Sequence[Payment]]
    stock: Mapping[str, Stock]
    reservations: Mapping[str, str]
    reserved: Mapping[str, Mapping[str, int]]
    shipments: Mapping[str, Sequence[str]]
    waiting: Mapping[str, int]
    parked: Mapping[str, int]


class GatewayLine(NamedTuple):
    """One attempt as the payment provider recorded it."""

    op: str
    order_id: str
    idempotency_key: str
    amount_minor: int
    currency: str
    outcome: str
    replied: bool


class Letter(NamedTuple):
    """One dead letter: where it stands, where it came from, why."""

    topic: str
    partition: int
    offset: int
    key: str
    origin: str
    error: str


class Created(NamedTuple):
    """What an `order.created` record says."""

    order_id: str
    total_minor: int
    currency: str


class Announced(NamedTuple):
    """What an `order.status_changed` record says."""

    version: int
    status: str


class Topics(NamedTuple):
    """What the topics hold. `records` counts by topic, `created` and `statuses` are by order.

    `latest` is what was announced under an order's highest version, of several the last. `repeated`
    counts records whose id was seen before; `mutated` are repeats of an order event with another
    body, `scattered` are keys found on two partitions of a topic, `unreadable` are records
    of order topics that are not what they should be. All three are texts for people.
    """

    records: Mapping[str, int]
    created: Mapping[str, Created]
    statuses: Mapping[str, frozenset[str]]
    latest: Mapping[str, Announced]
    repeated: int
    mutated: Sequence[str]
    scattered: Sequence[str]
    unreadable: Sequence[str]
    letters: Sequence[Letter]


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was read; `unread` names every source that could not be read, with the reason."""

    requests: Sequence[Request] | None
    snapshot: Snapshot | None
    topics: Topics | None
    gateway: Sequence[GatewayLine] | None
    unread: Mapping[str, str] = field(default_factory=dict)
