"""Checks of events: what PostgreSQL decided stands in the topics, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.reconcile.evidence import Snapshot, Topics
from chaos.reconcile.orders import saga_path
from chaos.reconcile.verdict import Check, found


def outbox_empty(snapshot: Snapshot) -> Check:
    """No event waits in the outbox, and none was set aside as unpublishable."""

    def wrong() -> Iterator[tuple[str, str]]:
        for topic, count in snapshot.waiting.items():
            yield topic, f"{count} events still wait in the outbox"
        for topic, count in snapshot.parked.items():
            yield topic, f"{count} events were parked by the relay"

    return found("outbox", "no event is left in the outbox", len(snapshot.orders), wrong())


def creations_published(snapshot: Snapshot, topics: Topics) -> Check:
    """Every order's creation stands in its topic with the order's total; no other does."""

    def wrong() -> Iterator[tuple[str, str]]:
        for order in snapshot.orders.values():
            event = topics.created.get(order.order_id)
            if event is None:
                yield order.order_id, "its order.created is not in the topic: lost"
            elif (event.total_minor, event.currency) != (order.total_minor, order.currency):
                yield order.order_id, f"order.created says {event.total_minor} {event.currency}"
        for order_id in topics.created.keys() - snapshot.orders.keys():
            yield order_id, "order.created of an order that PostgreSQL does not know"

    count = len(snapshot.orders.keys() | topics.created.keys())
    return found("created", "every creation is in the topic, no other is", count, wrong())


def statuses_published(snapshot: Snapshot, topics: Topics) -> Check:
    """Every state an order entered was announced, none that it did not enter, and the last one
    announced is the saga's, which is no older.
    """

    def wrong() -> Iterator[tuple[str, str]]:
        for order_id, order in snapshot.orders.items():
            entered = set(saga_path(snapshot, order_id))
            told = topics.statuses.get(order_id, frozenset())
            latest = topics.latest.get(order_id)
            saga = snapshot.sagas.get(order_id)
            if latest and latest.status != order.status:
                yield order_id, f"is {order.status}, announced last was {latest.status}"
            elif latest and saga and latest.version > saga.version:
                yield (
                    order_id,
                    f"its saga is at version {saga.version}, announced was {latest.version}",
                )
            if entered - told:
                yield order_id, f"never announced: {', '.join(sorted(entered - told))}"
            if told - entered:
                yield order_id, f"announced but not entered: {', '.join(sorted(told - entered))}"
        for order_id in topics.statuses.keys() - snapshot.orders.keys():
            yield order_id, "order.status_changed of an unknown order"

    count = len(snapshot.orders.keys() | topics.statuses.keys())
    return found("announced", "every change of state is in the topic", count, wrong())


def records_sound(topics: Topics) -> Check:
    """Repeats are identical, a key keeps its partition, order events can be read."""

    def wrong() -> Iterator[tuple[str, str]]:
        for text in (*topics.mutated, *topics.scattered, *topics.unreadable):
            yield text.split(":")[0], text

    count = sum(topics.records.values())
    note = f"{topics.repeated} repeated deliveries, absorbed" if topics.repeated else ""
    return found("records", "repeats are identical, keys keep their partition", count, wrong(),
                 note)  # fmt: skip
