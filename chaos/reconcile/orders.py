"""Checks of orders: accepted ones exist once, end, end rightly, and tell one history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from chaos.reconcile.evidence import CANCELLED, COMPLETED, FINAL, PARKED, Order, Request, Snapshot
from chaos.reconcile.verdict import Check, found

#: How an order of each class must end: status and reason.
EXPECTED_ENDS: dict[str, tuple[str, str]] = {
    "happy": (COMPLETED, ""),
    "declined": (CANCELLED, "payment_declined"),
    "out_of_stock": (CANCELLED, "out_of_stock"),
    "shipping_refused": (CANCELLED, "shipping_refused"),
    "cancelled": (CANCELLED, "customer"),
}
TIMEOUT = "timeout"
CANCEL_REQUESTED = "cancel_requested"


def accepted_orders(requests: Sequence[Request], snapshot: Snapshot) -> dict[str, Request]:
    """Return the accepted orders with their requests: those answered with success, and those whose
    answer is unknown but whose idempotency key the database knows.
    """
    accepted = {}
    for request in requests:
        if request.kind != "create":
            continue
        order_id = request.order_id if request.outcome == "ok" else ""
        if request.outcome == "unknown":
            order_id = snapshot.keys.get(request.idempotency_key, "")
        if order_id:
            accepted[order_id] = request
    return accepted


def accepted_once(requests: Sequence[Request], snapshot: Snapshot) -> Check:
    """Every accepted order stands in PostgreSQL exactly once, under the id that was answered."""
    creates = [one for one in requests if one.kind == "create"]
    ok = [one for one in creates if one.outcome == "ok"]
    known = accepted_orders(requests, snapshot)
    unknown = [one for one in creates if one.outcome == "unknown"]
    resolved = sum(one.idempotency_key in snapshot.keys for one in unknown)
    others = len(snapshot.orders.keys() - known.keys())

    def wrong() -> Iterator[tuple[str, str]]:
        for one in ok:
            if one.order_id not in snapshot.orders:
                yield one.order_id, "accepted, but not in PostgreSQL: lost"
            held = snapshot.keys.get(one.idempotency_key, one.order_id)
            if one.idempotency_key and held != one.order_id:
                yield one.order_id, f"its idempotency key made a second order {held}"

    notes = []
    if unknown:
        notes.append(f"{len(unknown)} answers unknown: {resolved} of them had made an order")
    if others:
        notes.append(f"{others} orders of other clients")
    title = "accepted orders are in PostgreSQL, each once"
    return found("accepted", title, len(ok), wrong(), "; ".join(notes))


def refused_left_nothing(requests: Sequence[Request], snapshot: Snapshot) -> Check:
    """A request that surely failed left no order."""
    failed = [one for one in requests if one.kind == "create" and one.outcome == "fail"]
    wrong = (
        (snapshot.keys[one.idempotency_key], f"refused ({one.detail}), yet there is an order")
        for one in failed
        if one.idempotency_key in snapshot.keys
    )
    return found("refused", "refused requests left no order", len(failed), wrong)


def all_ended(snapshot: Snapshot) -> Check:
    """Every order's saga is final and nothing is outstanding, neither command nor cancellation."""

    def wrong() -> Iterator[tuple[str, str]]:
        for order in snapshot.orders.values():
            if order.status == PARKED:
                yield order.order_id, f"PARKED ({order.reason}): an operator must act"
            elif order.status not in FINAL:
                yield order.order_id, f"still {order.status}: lost or stuck"
            elif not snapshot.sagas[order.order_id].terminal:
                yield order.order_id, f"{order.status}, but a command is still outstanding"
            elif order.status == COMPLETED and _cancel_undecided(snapshot, order.order_id):
                yield order.order_id, "COMPLETED, but its cancellation was never decided"
        for order_id in snapshot.sagas.keys() - snapshot.orders.keys():
            yield order_id, "a saga without an order"

    return found("ended", "every order reached a final state", len(snapshot.orders), wrong())


def ended_as_expected(requests: Sequence[Request], snapshot: Snapshot) -> Check:
    """Each order of a class ends as that class must.

    A cancellation may lose the race against the shipment: then the order is COMPLETED and its
    history says so. A timeout is a legal end under faults; it is counted, not hidden.
    """
    cancels = {one.order_id: one.outcome for one in requests if one.kind == "cancel"}
    judged = [
        (snapshot.orders[order_id], request.expected)
        for order_id, request in accepted_orders(requests, snapshot).items()
        if request.expected in EXPECTED_ENDS
        and order_id in snapshot.orders
        and snapshot.orders[order_id].status in FINAL
    ]
    late = sum(order.reason == TIMEOUT for order, _ in judged)
    wrong = (
        (order.order_id, f"ended {_end(order)}, expected {expected}")
        for order, expected in judged
        if not _as_expected(order, expected, cancels.get(order.order_id), snapshot)
    )
    note = f"{late} ended by timeout" if late else ""
    return found("class", "each order ended as its class must", len(judged), wrong, note)


def one_history(snapshot: Snapshot) -> Check:
    """No history goes on after a final state, its last state is the saga's, and it knows of no
    later version than the saga: that was taken back.
    """

    def wrong() -> Iterator[tuple[str, str]]:
        for order in snapshot.orders.values():
            path = saga_path(snapshot, order.order_id)
            ends = [status for status in path if status in FINAL]
            seen = max((one.version for one in snapshot.history.get(order.order_id, ())), default=0)
            saga = snapshot.sagas.get(order.order_id)
            reached = saga.version if saga else 0
            if len(ends) > 1 or (ends and path[-1] != ends[0]):
                yield order.order_id, f"went on after a final state: {' > '.join(path)}"
            elif path and path[-1] != order.status:
                yield order.order_id, f"is {order.status}, its history ends {path[-1]}"
            elif seen > reached:
                yield order.order_id, f"its saga is at version {reached}, its history at {seen}"
            elif not path and order.status in FINAL:
                yield order.order_id, f"is {order.status} without a history"

    return found("history", "histories end once, in the order's state", len(snapshot.orders),
                 wrong())  # fmt: skip


def _cancel_undecided(snapshot: Snapshot, order_id: str) -> bool:
    """Whether the API took a cancellation in and the orchestrator recorded nothing about it."""
    steps = snapshot.history.get(order_id, ())
    asked = any(not step.event and step.status == CANCEL_REQUESTED for step in steps)
    return asked and not any(step.event == CANCEL_REQUESTED for step in steps)


def saga_path(snapshot: Snapshot, order_id: str) -> list[str]:
    """Return the states of an order in turn, as the orchestrator recorded them."""
    path: list[str] = []
    for step in snapshot.history.get(order_id, ()):
        if step.event and path[-1:] != [step.status]:
            path.append(step.status)
    return path


def outcomes(requests: Sequence[Request], snapshot: Snapshot) -> Mapping[tuple[str, str], int]:
    """Return how many accepted orders of each class ended how."""
    table: dict[tuple[str, str], int] = {}
    for order_id, request in accepted_orders(requests, snapshot).items():
        order = snapshot.orders.get(order_id)
        place = (request.expected or "other", _end(order) if order else "lost")
        table[place] = table.get(place, 0) + 1
    ranks = {name: rank for rank, name in enumerate(EXPECTED_ENDS)}
    return dict(sorted(table.items(), key=lambda row: (ranks.get(row[0][0], len(ranks)), row[0])))


def _as_expected(order: Order, expected: str, cancel: str | None, snapshot: Snapshot) -> bool:
    if order.reason == TIMEOUT:
        return True
    asked = cancel is not None and cancel != "fail"
    if expected == "cancelled" and order.status == COMPLETED:
        events = {step.event for step in snapshot.history.get(order.order_id, ())}
        return cancel != "ok" or "cancel_refused" in events
    if expected == "cancelled" and not asked:
        return False
    return (order.status, order.reason) == EXPECTED_ENDS[expected]


def _end(order: Order) -> str:
    return f"{order.status} ({order.reason})" if order.reason else order.status
