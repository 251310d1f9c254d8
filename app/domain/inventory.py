"""The inventory participant: what reserve, release and commit do to stock.

A batch is decided in memory over rows that the caller has locked: first the orders' reservations,
then the stock rows of their lines and of `requested_skus` in SKU order, so that two workers never
wait for each other in a circle. Every SKU is then written once, however many orders touch it.

Stock is conserved: for every SKU `available + held + consumed` only changes by restocking, and
none is ever negative. A reservation is all lines or none. Reserve and release of one order are
commutative: a release that comes first leaves a tombstone which the late reserve finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from app.errors import Overtaken
from app.messages.inventory import (
    InventoryCommit,
    InventoryOutcome,
    InventoryRelease,
    InventoryRequested,
    InventoryResult,
    StockLow,
)

Status = Literal[
    "HELD",
    "OUT_OF_STOCK",
    "EXPIRED",  # tombstone: not started before `not_after`
    "RELEASED",  # also the tombstone of a release that came first
    "COMMITTED",
]
Operation = Literal["reserve", "release", "commit"]
Level = Literal["low", "critical"]
Command = InventoryRequested | InventoryRelease | InventoryCommit

#: A warning is given when the available quantity falls below a threshold, the lowest crossed wins.
THRESHOLDS: tuple[tuple[int, Level], ...] = ((10, "critical"), (50, "low"))


class Stock(msgspec.Struct, frozen=True):
    """The quantities of one SKU; none is negative."""

    sku: str
    available: int
    held: int
    consumed: int

    @property
    def restocked(self) -> int:
        """Units ever put in."""
        return self.available + self.held + self.consumed


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """What is recorded for an order; `version` counts its changes from 1.

    `lines` is (SKU, quantity) in SKU order, each SKU once; empty for tombstones and for orders
    without tracked lines.
    """

    order_id: str
    status: Status
    version: int
    lines: tuple[tuple[str, int], ...] = ()
    reason: str = ""


class Decision(NamedTuple):
    """The answer to one command: what to record, the changed stock rows, and what to publish."""

    reservation: Reservation
    stock: tuple[Stock, ...]
    result: InventoryResult
    low: tuple[StockLow, ...] = ()


class Batch(NamedTuple):
    """A decided batch: one decision per command in order, and the last state of what changed."""

    decisions: tuple[Decision, ...]
    reservations: dict[str, Reservation]
    stock: dict[str, Stock]


def requested_skus(commands: Iterable[tuple[str, Command]]) -> set[str]:
    """Return the SKUs that the batch asks for; what it releases or commits is in reservations."""
    return {
        line.sku
        for _, body in commands
        if isinstance(body, InventoryRequested)
        for line in body.lines
    }


def decide_batch(
    reservations: Mapping[str, Reservation],
    stock: Mapping[str, Stock],
    commands: Sequence[tuple[str, Command]],
    now: datetime,
) -> Batch:
    """Decide (command id, body) pairs in order, each seeing the effects of those before it.

    `reservations` by order id and `stock` by SKU hold the locked rows; a SKU that is absent does
    not exist. Raises Overtaken for a commit whose reservation is not there yet.
    """
    decisions = []
    changed_reservations: dict[str, Reservation] = {}
    changed_stock: dict[str, Stock] = {}
    rows = dict(stock)
    for command_id, body in commands:
        known = changed_reservations.get(body.order_id) or reservations.get(body.order_id)
        decision = decide(known, rows, command_id, body, now)
        decisions.append(decision)
        if decision.reservation is not known:
            changed_reservations[body.order_id] = decision.reservation
        for row in decision.stock:
            rows[row.sku] = changed_stock[row.sku] = row
    return Batch(tuple(decisions), changed_reservations, changed_stock)


def decide(
    reservation: Reservation | None,
    stock: Mapping[str, Stock],
    command_id: str,
    body: Command,
    now: datetime,
) -> Decision:
    """Decide one command on an order's reservation and the stock rows it touches."""
    match body:
        case InventoryRequested():
            return _reserve(reservation, stock, command_id, body, now)
        case InventoryRelease():
            return _release(reservation, stock, command_id, body)
        case InventoryCommit():
            return _commit(reservation, stock, command_id, body)


def notice(
    command_id: str,
    body: Command,
    outcome: Literal["RETRYING", "PARKED"],
    *,
    reason: str,
    due_at: datetime | None = None,
) -> InventoryResult:
    """Build the result that says that a command is being retried, or was dead-lettered."""
    return InventoryResult(
        order_id=body.order_id,
        command_id=command_id,
        operation=_operation(body),
        outcome=outcome,
        reason=reason[:200],
        due_at=due_at,
    )


def _reserve(
    reservation: Reservation | None,
    stock: Mapping[str, Stock],
    command_id: str,
    body: InventoryRequested,
    now: datetime,
) -> Decision:
    rows: tuple[Stock, ...] = ()
    low: tuple[StockLow, ...] = ()
    if reservation is None:
        lines = _merged(body)
        reservation, rows = _hold(body.order_id, lines, stock, expired=now > body.not_after)
        low = tuple(warning for row in rows for warning in _warnings(stock[row.sku], row))
    outcome: InventoryOutcome
    match reservation.status:
        case "HELD" | "COMMITTED":
            outcome = "OK"
        case "OUT_OF_STOCK":
            outcome = "OUT_OF_STOCK"
        case "EXPIRED":
            outcome = "EXPIRED"
        case "RELEASED":
            outcome = "CANCELLED"
    return Decision(reservation, rows, _result(reservation, command_id, body, outcome), low)


def _hold(
    order_id: str,
    lines: tuple[tuple[str, int], ...],
    stock: Mapping[str, Stock],
    *,
    expired: bool,
) -> tuple[Reservation, tuple[Stock, ...]]:
    if expired:
        return _first(order_id, "EXPIRED", reason="not_after"), ()
    for sku, quantity in lines:
        if sku not in stock:
            return _first(order_id, "OUT_OF_STOCK", reason=f"unknown_sku:{sku}"), ()
        if stock[sku].available < quantity:
            return _first(order_id, "OUT_OF_STOCK", reason=f"out_of_stock:{sku}"), ()
    rows = tuple(_moved(stock[sku], available=-quantity, held=quantity) for sku, quantity in lines)
    return _first(order_id, "HELD", lines=lines), rows


def _release(
    reservation: Reservation | None,
    stock: Mapping[str, Stock],
    command_id: str,
    body: InventoryRelease,
) -> Decision:
    rows: tuple[Stock, ...] = ()
    if reservation is None:
        reservation = _first(body.order_id, "RELEASED", reason="release_before_reserve")
    elif reservation.status == "HELD":
        rows = tuple(_moved(stock[sku], available=q, held=-q) for sku, q in reservation.lines)
        reservation = _changed(reservation, "RELEASED")
    elif reservation.status in ("OUT_OF_STOCK", "EXPIRED"):
        reservation = _changed(reservation, "RELEASED")
    outcome: InventoryOutcome = "REFUSED" if reservation.status == "COMMITTED" else "OK"
    return Decision(reservation, rows, _result(reservation, command_id, body, outcome))


def _commit(
    reservation: Reservation | None,
    stock: Mapping[str, Stock],
    command_id: str,
    body: InventoryCommit,
) -> Decision:
    if reservation is None:
        raise Overtaken("commit came before its reservation")
    rows: tuple[Stock, ...] = ()
    if reservation.status == "HELD":
        rows = tuple(_moved(stock[sku], held=-q, consumed=q) for sku, q in reservation.lines)
        reservation = _changed(reservation, "COMMITTED")
    outcome: InventoryOutcome = "OK" if reservation.status == "COMMITTED" else "REFUSED"
    return Decision(reservation, rows, _result(reservation, command_id, body, outcome))


def _merged(body: InventoryRequested) -> tuple[tuple[str, int], ...]:
    wanted: dict[str, int] = {}
    for line in body.lines:
        wanted[line.sku] = wanted.get(line.sku, 0) + line.quantity
    return tuple(sorted(wanted.items()))


def _moved(row: Stock, *, available: int = 0, held: int, consumed: int = 0) -> Stock:
    return Stock(row.sku, row.available + available, row.held + held, row.consumed + consumed)


def _warnings(before: Stock, after: Stock) -> Iterable[StockLow]:
    for threshold, level in THRESHOLDS:
        if after.available < threshold <= before.available:
            warning = StockLow(
                sku=after.sku, available=after.available, level=level, restocked=after.restocked
            )
            return (warning,)
    return ()


def _first(
    order_id: str, status: Status, *, lines: tuple[tuple[str, int], ...] = (), reason: str = ""
) -> Reservation:
    return Reservation(
        order_id=order_id, status=status, version=1, lines=lines, reason=reason[:200]
    )


def _changed(reservation: Reservation, status: Status) -> Reservation:
    return msgspec.structs.replace(
        reservation, status=status, version=reservation.version + 1, reason=""
    )


def _operation(body: Command) -> Operation:
    match body:
        case InventoryRequested():
            return "reserve"
        case InventoryRelease():
            return "release"
        case InventoryCommit():
            return "commit"


def _result(
    reservation: Reservation, command_id: str, body: Command, outcome: InventoryOutcome
) -> InventoryResult:
    return InventoryResult(
        order_id=reservation.order_id,
        command_id=command_id,
        operation=_operation(body),
        outcome=outcome,
        reason=reservation.reason,
        state_version=reservation.version,
    )
