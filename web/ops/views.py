"""What the pages show, as plain values: words, icons and times ready for the templates. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from app.db.order_reads import HistoryRow, LineRow, OrderRow
from app.domain.definition import FINAL
from web.api.money import format_minor


class Status(NamedTuple):
    """A status for people: a word, an icon (SVG path on a 16x16 grid) and a colour's name."""

    word: str
    icon: str
    tone: str


class Moment(NamedTuple):
    """A time in UTC: for machines, in full, as short as a list allows, and to the millisecond."""

    iso: str
    full: str
    short: str
    clock: str


class OrderView(NamedTuple):
    """One order as shown; `took` is empty while it runs."""

    id: str
    short_id: str
    status: Status
    reason: str
    customer: str
    total: str
    currency: str
    placed: Moment
    took: str


class LineView(NamedTuple):
    """One line as shown."""

    product: str
    quantity: int
    price: str


class EntryView(NamedTuple):
    """One entry of the timeline; `offset` is the time since the order was placed."""

    status: Status
    reason: str
    at: Moment
    offset: str


_CLOCK: Final = "M8 2a6 6 0 1 0 0 12A6 6 0 1 0 8 2M8 5v3l2 2"
_CHECK: Final = "M3 8.5l3.5 3.5L13 4.5"
_CROSS: Final = "M4 4l8 8M12 4l-8 8"
_BACK: Final = "M6 3L2.5 6.5 6 10M3 6.5h6a4 4 0 0 1 0 7H6"
_PAUSE: Final = "M5.5 3.5v9M10.5 3.5v9"
_EYE: Final = "M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8M8 7v2"
_DOT: Final = "M8 5a3 3 0 1 0 0 6A3 3 0 1 0 8 5"

STATUSES: Final = {
    "PENDING": Status("accepted", _DOT, "run"),
    "REVIEW": Status("in review", _EYE, "warn"),
    "PAYMENT_PENDING": Status("waiting for payment", _CLOCK, "run"),
    "INVENTORY_PENDING": Status("waiting for stock", _CLOCK, "run"),
    "SHIPPING_PENDING": Status("waiting for shipping", _CLOCK, "run"),
    "COMMIT_PENDING": Status("finishing", _CLOCK, "run"),
    "COMPENSATING": Status("being undone", _BACK, "warn"),
    "PARKED": Status("parked", _PAUSE, "bad"),
    "COMPLETED": Status("completed", _CHECK, "good"),
    "CANCELLED": Status("cancelled", _CROSS, "bad"),
    "REJECTED": Status("rejected", _CROSS, "bad"),
    "cancel_requested": Status("cancel requested", _BACK, "warn"),
    "cancelled": Status("cancelled on request", _CROSS, "bad"),
    "cancel_refused": Status("cancel refused: too late", _CROSS, "warn"),
}


def status(name: str) -> Status:
    """Return how a status is shown; one this page does not know is shown by its own name."""
    return STATUSES.get(name, Status(name.lower().replace("_", " "), _DOT, "run"))


def moment(at: datetime) -> Moment:
    """Return a time as shown, in UTC."""
    utc = at.astimezone(UTC)
    return Moment(
        iso=utc.isoformat(),
        full=f"{utc:%Y-%m-%d %H:%M:%S.%f} UTC",
        short=f"{utc:%b %d %H:%M:%S}",
        clock=f"{utc:%H:%M:%S}.{utc.microsecond // 1000:03d}",
    )


def duration(seconds: float) -> str:
    """Return a duration in the two digits people compare: 340 ms, 2.4 s, 3 min 5 s, 2 h 4 min."""
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def order_view(row: OrderRow) -> OrderView:
    """Return an order as shown."""
    took = row.updated_at - row.created_at
    return OrderView(
        id=row.order_id,
        short_id=f"{row.order_id[-8:]}",
        status=status(row.status),
        reason=row.reason.replace("_", " "),
        customer=row.customer_id,
        total=format_minor(row.total_minor, row.currency),
        currency=row.currency,
        placed=moment(row.created_at),
        took=duration(took.total_seconds()) if row.status in FINAL else "",
    )


def line_views(rows: Sequence[LineRow], currency: str) -> list[LineView]:
    """Return an order's lines as shown; an amount-only order is one line of its amount."""
    return [
        LineView(
            product=row.product_id if row.tracked else "amount",
            quantity=row.quantity,
            price=format_minor(row.unit_price_minor, currency),
        )
        for row in rows
    ]


def timeline(order: OrderRow, rows: Sequence[HistoryRow]) -> list[EntryView]:
    """Return what happened, oldest first, beginning with the order's acceptance."""
    accepted = EntryView(status("PENDING"), "", moment(order.created_at), "+0 ms")
    return [accepted] + [
        EntryView(
            status=status(row.status),
            reason=row.reason.replace("_", " "),
            at=moment(row.at),
            offset="+" + duration((row.at - order.created_at).total_seconds()),
        )
        for row in rows
    ]
