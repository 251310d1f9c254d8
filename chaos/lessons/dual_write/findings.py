"""What a run of the lesson found: rows of checks, a timeline, and what it means. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from chaos.lessons.dual_write.reconcile import Books


class Scenario(StrEnum):
    """Which of the two writes is missing in the end."""

    LOST = "lost"
    PHANTOM = "phantom"


class Mode(StrEnum):
    """How role web tells the world about an order."""

    DUAL_WRITE = "dual-write"
    DUAL_WRITE_RAISE = "dual-write-raise"
    OUTBOX = "outbox"


class Check(NamedTuple):
    """One row of the report."""

    name: str
    expected: str
    actual: str

    @property
    def result(self) -> str:
        """PASS or FAIL."""
        return "PASS" if self.expected == self.actual else "FAIL"


class Placed(NamedTuple):
    """One order that was asked for; `status` 0 means that no answer came.

    `order_id` is empty when the client was not told any.
    """

    phase: str
    status: int
    order_id: str


class Run(NamedTuple):
    """All that happened; `timeline` is (seconds since the start, what)."""

    scenario: Scenario
    mode: Mode
    placed: Sequence[Placed]
    books: Books
    timeline: Sequence[tuple[float, str]]

    def answers(self, phase: str) -> list[Placed]:
        """What was placed in one phase: `before`, `during`, `after`."""
        return [one for one in self.placed if one.phase == phase]

    @property
    def checks(self) -> list[Check]:
        """The rows of the report: a platform that keeps its promise passes them all."""
        books = self.books
        before = books.among(one.order_id for one in self.answers("before"))
        after = books.among(one.order_id for one in self.answers("after"))
        first, last = len(self.answers("before")), len(self.answers("after"))
        told = [one.order_id for one in self.answers("during") if one.status == 202]
        during = books.among(told)
        return [
            Check("orders placed before the fault are in the database", _n(first),
                  _n(len(before.stored))),
            Check("their events are in Kafka", _n(first), _n(len(before.published))),
            Check("orders accepted during the fault are in the database", _n(len(told)),
                  _n(len(during.stored))),
            Check("their events are in Kafka", _n(len(told)), _n(len(during.published))),
            Check("orders placed after the fault are in the database", _n(last),
                  _n(len(after.stored))),
            Check("their events are in Kafka", _n(last), _n(len(after.published))),
            Check("the database holds as many orders as Kafka events", _n(len(books.stored)),
                  _n(len(books.published))),
            Check("lost events (order stored, no event)", _n(0), _n(len(books.lost))),
            Check("phantom events (event published, no order)", _n(0), _n(len(books.phantom))),
            Check("a refused request left neither order nor event", _n(0),
                  _n(self._left_by_refused())),
        ]  # fmt: skip

    def _left_by_refused(self) -> int:
        """Orders or events of requests that nobody was told the id of."""
        told = {one.order_id for one in self.placed if one.order_id}
        return len((self.books.stored | self.books.published) - told)

    @property
    def inconsistent(self) -> bool:
        """Whether database and topic differ."""
        return bool(self.books.lost or self.books.phantom)

    @property
    def as_taught(self) -> bool:
        """Whether the run shows what the lesson says: drift in a dual write, none by outbox."""
        if self.mode is Mode.OUTBOX:
            return all(one.result == "PASS" for one in self.checks)
        wanted = self.books.lost if self.scenario is Scenario.LOST else self.books.phantom
        return bool(wanted)


ROOT_CAUSE = {
    (Scenario.LOST, Mode.DUAL_WRITE): "The order is committed first and its event is sent then."
    " The broker was away in between; the failure was logged and swallowed, the client was told"
    " 202, and nobody ever sends the event again.",
    (Scenario.LOST, Mode.DUAL_WRITE_RAISE): "The order is committed first and its event is sent"
    " then. The broker was away in between; the client was told 500 as if nothing had happened,"
    " yet the order is in the database and its event is nowhere.",
    (Scenario.PHANTOM, Mode.DUAL_WRITE): "The event is sent first and the order is committed then."
    " The transaction was rolled back, or the process died, in between; Kafka cannot take the event"
    " back, and every consumer acts on an order that does not exist.",
}
NO_CAUSE = (
    "There is no drift: the event is a row of the order's own transaction. It commits with the"
    " order or is rolled back with it, and the relay sends it until the broker has acknowledged it."
)
FIX = (
    "Transactional outbox: write the event into a table in the transaction of the order; a relay"
    " publishes rows in order, awaits the acknowledgement and deletes them then. At-least-once:"
    " consumers drop the repeats by event id. Run the same scenario with --mode outbox."
)


def document(run: Run) -> dict[str, Any]:
    """The report as JSON-ready data."""
    return {
        "lesson": "dual-write",
        "scenario": run.scenario.value,
        "mode": run.mode.value,
        "inconsistent": run.inconsistent,
        "as_taught": run.as_taught,
        "checks": [{**one._asdict(), "result": one.result} for one in run.checks],
        "answers": [one._asdict() for one in run.placed],
        "orders_in_database": len(run.books.stored),
        "events_in_kafka": len(run.books.published),
        "lost": run.books.lost,
        "phantom": run.books.phantom,
        "timeline": [{"at_s": round(at_s, 2), "what": what} for at_s, what in run.timeline],
        "root_cause": root_cause(run),
        "fix": "" if run.mode is Mode.OUTBOX else FIX,
    }


def root_cause(run: Run) -> str:
    """Why database and topic differ, or why they do not."""
    if run.mode is Mode.OUTBOX:
        return NO_CAUSE
    return ROOT_CAUSE[_told_as(run.scenario, run.mode)]


def _told_as(scenario: Scenario, mode: Mode) -> tuple[Scenario, Mode]:
    return (scenario, mode if scenario is Scenario.LOST else Mode.DUAL_WRITE)


def _n(number: int) -> str:
    return str(number)
