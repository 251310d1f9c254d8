"""What is ordered: a plan of requests, a function of seed, mix and catalogue. Pure.

Every request belongs to one class, which says how its order must end. Shares are exact (largest
remainder), the order of classes is shuffled by the seed, so that small runs have every class.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

#: No total of a plan is higher, in minor units: above 1,000 EUR a person reviews an order, and the
#: load waits for nobody. Below it no order can score so much (docs/fraud.md).
TOTAL_MAX_MINOR = 100_000
#: The payment sandbox declines amounts whose minor units end so; every other amount is accepted.
DECLINED_ENDING = 13
STOCKED_MIN = 1_000
SHIPPING_REFUSED_ADDRESS = "1 Refuse Lane, 1010 Vienna, AT"
ADDRESSES = (
    "Musikvereinsplatz 1, 1010 Vienna, AT",
    "Philharmonie, 10785 Berlin, DE",
    "221 Avenue Jean Jaures, 75019 Paris, FR",
)


class Outcome(StrEnum):
    """The classes of requests, named by how their orders end."""

    HAPPY = "happy"
    DECLINED = "declined"
    OUT_OF_STOCK = "out_of_stock"
    SHIPPING_REFUSED = "shipping_refused"
    CANCELLED = "cancelled"


DEFAULT_MIX: dict[Outcome, float] = {
    Outcome.HAPPY: 70,
    Outcome.DECLINED: 9,
    Outcome.OUT_OF_STOCK: 7,
    Outcome.SHIPPING_REFUSED: 7,
    Outcome.CANCELLED: 7,
}


class UnusableMixError(ValueError):
    """A mix that cannot be ordered; the text says why."""


class Product(msgspec.Struct, frozen=True, rename="camel"):
    """What the generator needs to know of a product of GET /api/products."""

    product_id: str
    available: int | None = None
    price_minor: int = 0


class Order(NamedTuple):
    """One planned order; `due_s` counts from the start, `cancel_after_s` from its answer.

    Once accepted it is asked for again when `repeated`, and its key is tried with another body when
    `contested`.
    """

    number: int
    due_s: float
    expected: Outcome
    body: dict[str, Any]
    cancel_after_s: float | None = None
    repeated: bool = False
    contested: bool = False


class Again(NamedTuple):
    """Which shares (0 to 1) of the orders have their idempotency key used again once accepted."""

    repeated: float = 0.02
    contested: float = 0.01


DEFAULT_AGAIN = Again()
NEVER_AGAIN = Again(0.0, 0.0)


def parse_mix(text: str) -> dict[Outcome, float]:
    """Return the shares of `happy=70,declined=10`; raises UnusableMixError naming the mistake."""
    shares: dict[Outcome, float] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, share = part.partition("=")
        try:
            shares[Outcome(name.strip())] = float(share)
        except ValueError:
            known = ", ".join(Outcome)
            raise UnusableMixError(f"{part!r} is not NAME=SHARE with NAME in {known}") from None
    if not shares or min(shares.values()) < 0 or not 0 < sum(shares.values()) < float("inf"):
        raise UnusableMixError("the shares must be numbers from 0, and not all 0")
    return shares


def plan(
    orders: int,
    rate_per_s: float,
    seed: int,
    mix: Mapping[Outcome, float],
    catalogue: Sequence[Product],
    again: Again = DEFAULT_AGAIN,
) -> list[Order]:
    """Return `orders` requests in the order of their due times, one every 1/`rate_per_s` seconds.

    Equal arguments give equal plans; `again` changes nothing else about them. Raises
    UnusableMixError when the catalogue lacks what the mix needs.
    """
    luck = random.Random(seed)
    cheap = [one for one in catalogue if one.price_minor <= TOTAL_MAX_MINOR]
    stocked = sorted(p.product_id for p in cheap if (p.available or 0) >= STOCKED_MIN)
    sold_out = sorted(p.product_id for p in cheap if p.available == 0)
    prices = {one.product_id: one.price_minor for one in cheap}
    if mix.get(Outcome.OUT_OF_STOCK, 0) and not sold_out:
        raise UnusableMixError("no product is sold out, so no order can find it out of stock")
    classes = _classes(orders, mix)
    luck.shuffle(classes)
    places = random.Random(f"again {seed}")
    repeated = _spread(orders, again.repeated, places)
    contested = _spread(orders, again.contested, places)
    return [
        Order(
            number,
            number / rate_per_s,
            expected,
            _body(expected, stocked, sold_out, prices, luck),
            luck.uniform(0.0, 0.03) if expected is Outcome.CANCELLED else None,
            repeated[number],
            contested[number],
        )
        for number, expected in enumerate(classes)
    ]


def other_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a body that is as good as `body`, but asks for another order."""
    return {**body, "customerId": f"{body['customerId']}-other"}


def _spread(orders: int, share: float, luck: random.Random) -> list[bool]:
    """Choose `share` of the orders, to the nearest order in every beginning of the plan."""
    phase = luck.random()
    return [int((at + 1) * share + phase) > int(at * share + phase) for at in range(orders)]


def _classes(orders: int, mix: Mapping[Outcome, float]) -> list[Outcome]:
    total = sum(mix.values())
    exact = {outcome: orders * share / total for outcome, share in mix.items()}
    counts = {outcome: int(value) for outcome, value in exact.items()}
    rest = sorted(exact, key=lambda outcome: counts[outcome] - exact[outcome])
    for outcome in rest[: orders - sum(counts.values())]:
        counts[outcome] += 1
    return [outcome for outcome, count in counts.items() for _ in range(count)]


def _body(
    expected: Outcome,
    stocked: Sequence[str],
    sold_out: Sequence[str],
    prices: Mapping[str, int],
    luck: random.Random,
) -> dict[str, Any]:
    body: dict[str, Any] = {"customerId": f"customer-{luck.randrange(500)}"}
    if luck.random() < 0.7 or expected is Outcome.SHIPPING_REFUSED:
        refused = expected is Outcome.SHIPPING_REFUSED
        body["shippingAddress"] = SHIPPING_REFUSED_ADDRESS if refused else luck.choice(ADDRESSES)
    if expected is Outcome.DECLINED:
        return {**body, **_amount(luck.randrange(1, 500) * 100 + DECLINED_ENDING)}
    if expected is Outcome.OUT_OF_STOCK:
        wanted = {luck.choice(sold_out): 1}
        wanted.update({sku: 1 for sku in stocked if luck.random() < 0.1})
        return {**body, "items": _items(_affordable(wanted, prices))}
    if stocked and luck.random() < 0.6:
        chosen = luck.sample(stocked, k=min(len(stocked), luck.randint(1, 3)))
        wanted = {sku: luck.randint(1, 3) for sku in chosen}
        return {**body, "items": _items(_affordable(wanted, prices))}
    minor = luck.randrange(100, 50_000)
    return {**body, **_amount(minor + 1 if minor % 100 == DECLINED_ENDING else minor)}


def _affordable(wanted: Mapping[str, int], prices: Mapping[str, int]) -> dict[str, int]:
    """As much of `wanted`, first product first, as TOTAL_MAX_MINOR pays for."""
    left = TOTAL_MAX_MINOR
    bought: dict[str, int] = {}
    for sku, quantity in wanted.items():
        count = min(quantity, left // prices[sku]) if prices[sku] else quantity
        if count:
            bought[sku] = count
            left -= count * prices[sku]
    return bought


def _amount(minor: int) -> dict[str, Any]:
    return {"total": f"{minor // 100}.{minor % 100:02d}", "currency": "EUR"}


def _items(wanted: Mapping[str, int]) -> list[dict[str, Any]]:
    return [{"productId": sku, "quantity": quantity} for sku, quantity in wanted.items()]
