"""What the demo has to say: texts and tables, made from facts. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chaos.auditor.platform import EXPECTED_ENDS
from chaos.auditor.report.text import columns
from chaos.demo.kills import Kill

#: What a demo does not provoke: refusals and dead letters.
MAY_BE_IDLE = frozenset({"O2", "D1", "D2"})

MEANING: Mapping[str, str] = {
    "happy": "paid, stock taken, shipped",
    "declined": "the card was declined: nothing happened, nothing to undo",
    "out_of_stock": "paid, then sold out: the payment was refunded",
    "shipping_refused": "paid and reserved, then refused: stock released, payment refunded",
    "cancelled": "cancelled by the customer on its way: whatever was done was undone",
}
LATE_CANCEL = "cancelled too late: it was shipped, and the customer was told"
TIMED_OUT = "gave up waiting: whatever was done was undone"


def opening(orders: int, seed: int) -> str:
    """The first lines: what will be shown and why it is worth it."""
    return (
        f"Chaos Symphony: {orders} orders travel through payment, inventory and shipping (seed"
        f" {seed}).\nSome are meant to fail halfway and must be undone. In the middle, three"
        " workers are killed\nwith kill -9. In the end an independent auditor compares the books of"
        " everybody\ninvolved: was an order, a payment or a unit of stock lost or doubled?"
    )


def kills_table(kills: Sequence[Kill]) -> str:
    """Who was killed, and how soon the work went on."""
    rows = [("killed", "first new effect after", "proof")]
    rows += [
        (
            kill.name,
            f"{kill.effect_s:.1f} s" if kill.effect_s else "-",
            f"NOT PROVED: {kill.problem}" if kill.problem else kill.evidence,
        )
        for kill in kills
    ]
    return columns(rows)


def outcomes_table(outcomes: Mapping[tuple[str, str], int]) -> str:
    """Class, final state, count, and what it means."""
    rows = [("class", "final state", "orders", "which means")]
    rows += [
        (name, end, str(count), _meaning(name, end)) for (name, end), count in outcomes.items()
    ]
    return columns(rows)


def empty_classes(outcomes: Mapping[tuple[str, str], int]) -> list[str]:
    """Return the classes of which no order ended as the class is named for."""
    seen = {(name, end) for (name, end), count in outcomes.items() if count}
    return [
        name
        for name, (status, reason) in EXPECTED_ENDS.items()
        if (name, f"{status} ({reason})" if reason else status) not in seen
    ]


def doubts(
    outcomes: Mapping[tuple[str, str], int], kills: Sequence[Kill], idle: Sequence[str]
) -> list[str]:
    """Return why this run proves less than it should: each makes its result void (exit 2).

    `idle` are the invariants that had nothing to examine.
    """
    found = [f"no order of class {name} ended as it should" for name in empty_classes(outcomes)]
    found += [f"the kill of {kill.name} is not proved: {kill.problem}"
              for kill in kills if kill.problem]  # fmt: skip
    return found + [f"{name} had nothing to examine" for name in idle if name not in MAY_BE_IDLE]


def _meaning(name: str, end: str) -> str:
    if end.endswith("(timeout)"):
        return TIMED_OUT
    if name == "cancelled" and end == "COMPLETED":
        return LATE_CANCEL
    return MEANING.get(name, "")
