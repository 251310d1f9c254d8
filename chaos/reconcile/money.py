"""Checks of money: what the provider captured and gave back against what orders are worth.

The provider's ledger decides what happened; PostgreSQL must agree with it, not the other way round.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from chaos.reconcile.evidence import COMPLETED, FINAL, GatewayLine, Order, Snapshot
from chaos.reconcile.verdict import Check, found

#: Payment statuses that claim: the money of this order is with the provider.
HOLDING = frozenset({"CHARGED", "REFUNDING"})


class Money(NamedTuple):
    """What the provider did for one order: amounts captured and refunded, in order."""

    captured: tuple[tuple[int, str], ...] = ()
    refunded: tuple[tuple[int, str], ...] = ()

    @property
    def kept_minor(self) -> int:
        """Captured minus refunded."""
        return sum(amount for amount, _ in self.captured) - sum(
            amount for amount, _ in self.refunded
        )


NOTHING = Money()


def by_order(lines: Sequence[GatewayLine]) -> dict[str, Money]:
    """Return what the provider did, by order; replayed answers and refusals moved no money."""
    captured: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    refunded: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for line in lines:
        if line.outcome == "ok" and line.op in ("charge", "refund"):
            moved = captured if line.op == "charge" else refunded
            moved[line.order_id].append((line.amount_minor, line.currency))
    return {
        order_id: Money(tuple(captured[order_id]), tuple(refunded[order_id]))
        for order_id in [*captured, *(one for one in refunded if one not in captured)]
    }


def charged_once(snapshot: Snapshot, money: Mapping[str, Money]) -> Check:
    """A completed order was charged exactly once, with its total, and keeps that charge."""
    completed = [order for order in snapshot.orders.values() if order.status == COMPLETED]

    def wrong() -> Iterator[tuple[str, str]]:
        for order in completed:
            seen = money.get(order.order_id, NOTHING)
            if len(seen.captured) != 1:
                yield order.order_id, f"COMPLETED with {len(seen.captured)} charges"
            elif seen.captured[0] != (order.total_minor, order.currency):
                yield (
                    order.order_id,
                    f"charged {_shown(seen.captured)}, its total is {_total(order)}",
                )
            elif seen.refunded:
                yield order.order_id, f"COMPLETED, yet {_shown(seen.refunded)} was refunded"

    return found(
        "charge", "completed orders: one charge, the right amount", len(completed), wrong()
    )


def nothing_kept(snapshot: Snapshot, money: Mapping[str, Money]) -> Check:
    """An order that did not complete keeps no money: every charge was refunded, once."""
    ended = [o for o in snapshot.orders.values() if o.status in FINAL and o.status != COMPLETED]
    compensated = sum(bool(money.get(order.order_id, NOTHING).captured) for order in ended)

    def wrong() -> Iterator[tuple[str, str]]:
        for order in ended:
            seen = money.get(order.order_id, NOTHING)
            if len(seen.captured) > 1:
                yield order.order_id, f"{order.status} with {len(seen.captured)} charges"
            elif len(seen.refunded) > len(seen.captured):
                yield (
                    order.order_id,
                    f"refunded {len(seen.refunded)} times: {_shown(seen.refunded)}",
                )
            elif seen.kept_minor or seen.captured != seen.refunded:
                given = _shown(seen.refunded) or "nothing"
                yield (
                    order.order_id,
                    f"{order.status}: {_shown(seen.captured)} charged, {given} back",
                )

    note = f"{compensated} charges compensated by a refund"
    return found("refund", "cancelled orders: captured - refunded = 0", len(ended), wrong(), note)


def records_agree(snapshot: Snapshot, money: Mapping[str, Money]) -> Check:
    """PostgreSQL and the provider agree, order by order, on whether money is held."""
    everyone = snapshot.payments.keys() | money.keys()

    def wrong() -> Iterator[tuple[str, str]]:
        for order_id in sorted(everyone):
            held = money.get(order_id, NOTHING).kept_minor
            rows = snapshot.payments.get(order_id, ())
            claimed = sum(row.amount_minor for row in rows if row.status in HOLDING)
            if order_id not in snapshot.orders:
                yield order_id, f"the provider knows it, PostgreSQL has no such order ({held} held)"
            elif held != claimed:
                states = ", ".join(row.status for row in rows) or "no payment"
                yield order_id, f"the provider holds {held}, PostgreSQL says {claimed} ({states})"

    return found("payments", "provider and payment records agree", len(everyone), wrong())


def sums_agree(snapshot: Snapshot, money: Mapping[str, Money]) -> Check:
    """Over all orders: captured minus refunded is the total of the completed ones, per currency."""
    held: Counter[str] = Counter()
    for seen in money.values():
        for amount, currency in seen.captured:
            held[currency] += amount
        for amount, currency in seen.refunded:
            held[currency] -= amount
    earned: Counter[str] = Counter()
    for order in snapshot.orders.values():
        if order.status == COMPLETED:
            earned[order.currency] += order.total_minor
    currencies = sorted(held.keys() | earned.keys())
    wrong = (
        (name, f"the provider holds {held[name]}, completed orders are worth {earned[name]}")
        for name in currencies
        if held[name] != earned[name]
    )
    note = ", ".join(f"{name} {held[name] / 100:,.2f}" for name in currencies)
    return found("bank", "money held = total of completed orders", len(currencies), wrong, note)


def _total(order: Order) -> str:
    return f"{order.total_minor} {order.currency}"


def _shown(moves: Sequence[tuple[int, str]]) -> str:
    return " + ".join(f"{amount} {currency}" for amount, currency in moves)
