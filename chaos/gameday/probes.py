"""What a steady state is made of: Chaos Toolkit probes that each answer one bare number or boolean.

A figure that cannot be known raises, so that it never passes for a good one.
"""

from __future__ import annotations

from chaos.console.api import Api, ApiError
from chaos.gameday import session
from chaos.lab.client import Lab
from chaos.observe.embedded import OBSERVERS


class NotKnown(Exception):
    """There is no figure, because nothing was seen or nobody answers."""


def accept_ratio(window_s: float = 8.0) -> float:
    """The share of orders that were accepted among all that were answered or given up lately."""
    found = session.current().meter.reading(window_s).error_ratio
    if found is None:
        raise NotKnown("no order was sent yet")
    return round(1 - found, 6)


def accept_p95_ms(window_s: float = 8.0) -> float:
    """How long 95 % of the orders took to be accepted lately, from the intended moment."""
    found = session.current().meter.client(window_s).p95_ms
    if found is None:
        raise NotKnown(f"no order was answered within {window_s:g} s")
    return round(found, 1)


def completion_p95_ms() -> float:
    """How long 95 % of the orders took to complete lately, as the platform itself tells it."""
    try:
        found = Api(session.current().target.url).get("/api/metrics/slo")["p95Latency"]
    except ApiError as error:
        raise NotKnown(error.detail) from None
    if found is None:
        raise NotKnown("no order completed lately, or role slo does not count")
    return round(float(found), 1)


def backlog() -> int:
    """Sagas under way and events that wait in the outbox; an order is some of both for a while."""
    books = session.current().meter.books
    if books is None:
        raise NotKnown("PostgreSQL does not answer")
    return books.running + books.outbox


def stuck_sagas() -> int:
    """Sagas more than 30 s past their deadline; parked ones wait for an operator: not counted."""
    books = session.current().meter.books
    if books is None:
        raise NotKnown("PostgreSQL does not answer")
    return books.stuck


def everything_ready() -> bool:
    """Whether every process of the lab that is meant to run is ready."""
    return not not_ready(session.current().lab)


def not_ready(lab: Lab) -> list[str]:
    """Processes that are meant to run and do not work; the lab's own word and each worker's."""
    rows = lab.status(delivery=True)["processes"]
    return [
        row["name"]
        for row in rows
        if row["role"] not in OBSERVERS and (
            row["state"] not in ("ready", "stopped")
            or (row["state"] == "ready" and row.get("delivery") is not None
                and not row["delivery"].get("ready", True))
        )
    ]  # fmt: skip


def faults_active() -> int:
    """How many faults of this GameDay are in force."""
    return len(session.current().strikes.active)
