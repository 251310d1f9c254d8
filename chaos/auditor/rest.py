"""Waiting until nothing moves, and proving it: books of different parties agree only at rest.

At rest means: every order final or parked, no command outstanding, every cancellation decided, the
outbox empty, every retry redelivered, no old transaction open; then a barrier written to every
partition has passed every consumer (a lag of 0 alone may lie), committed offsets are the ends, and
twice in a row, a pause apart, nothing has changed.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NamedTuple

import msgspec
import psycopg2
from confluent_kafka import Producer

from chaos.auditor.platform import (
    BARRIER_TYPE,
    COUNTER,
    DEAD_LETTER_SUFFIX,
    OPTIONAL_CONSUMERS,
    RETRY_TIERS,
    ROLE_OF_RAW,
    consumers,
)
from chaos.auditor.records import Place, Topics
from chaos.auditor.snapshot import ever_ran
from chaos.auditor.sources import Sources, UnreadableError

PAUSE_S = 1.0
CONNECT_TIMEOUT_S = 5
SEND_TIMEOUT_S = 15.0
BARRIER_TIMEOUT_S = 30.0
OLD_TRANSACTION_S = 5
SHOWN_MAX = 4

_WAITS_FOR_A_PERSON = """exists (select from orders.fraud_review f
    where f.order_id = s.order_id and f.decision = '')"""
_LOOK = f"""
select (select count(*) from orders.orders),
       (select count(*) from orders.orders o left join orders.saga s on s.order_id = o.order_id
         where coalesce(s.state, '') not in ('COMPLETED', 'CANCELLED', 'REJECTED', 'PARKED')
           and not (coalesce(s.state, '') = 'REVIEW' and {_WAITS_FOR_A_PERSON})),
       (select count(*) from orders.saga s where not terminal and state <> 'PARKED'
           and not (state = 'REVIEW' and {_WAITS_FOR_A_PERSON})),
       (select count(*) from ops.outbox),
       (select count(*) from ops.inbox),
       (select count(*) from pg_stat_activity where state <> 'idle' and backend_type =
         'client backend' and datname = current_database() and pid <> pg_backend_pid()
         and xact_start < now() - interval '{OLD_TRANSACTION_S} seconds')
"""
# The API's line of a history has no event; the orchestrator's line about it says that it was
# decided. Without one it is under way, unless the order had ended already: then none is written.
_UNDECIDED = """
select count(distinct asked.order_id)
  from orders.order_history asked join orders.saga s on s.order_id = asked.order_id
 where asked.event = '' and asked.status = 'cancel_requested'
   and s.state in ('COMPLETED', 'PARKED')
   and not exists (select from orders.order_history decided
                    where decided.order_id = asked.order_id and decided.event = 'cancel_requested')
"""
_PASSED = "select consumer, event_id::text from ops.inbox where event_id = any(%s::uuid[])"


class Look(NamedTuple):
    """One look at PostgreSQL; `undecided` reads all history, so it is 0 while others are not."""

    orders: int
    running: int
    outstanding: int
    outbox: int
    inbox: int
    transactions: int
    undecided: int = 0

    @property
    def busy(self) -> str:
        """What is still under way, empty when nothing is."""
        parts = {
            f"{self.running} of {self.orders} orders on their way": self.running,
            f"{self.outstanding} sagas await an answer": self.outstanding > self.running,
            f"{self.outbox} events in the outbox": self.outbox,
            f"{self.transactions} transactions older than {OLD_TRANSACTION_S} s": self.transactions,
            f"{self.undecided} cancellations undecided": self.undecided,
        }
        return ", ".join(text for text, count in parts.items() if count)


class Still(NamedTuple):
    """What may not change between two looks."""

    look: Look
    ends: Mapping[Place, int]
    gateway_bytes: int


def wait_for_rest(
    sources: Sources,
    topics: Topics,
    *,
    deadline_s: float,
    barriers: bool,
    progress: Callable[[str], None],
    pause_s: float = PAUSE_S,
) -> str:
    """Wait until nothing moves; return why it still does after `deadline_s`, empty when at rest.

    A book that does not answer meanwhile is waited for like anything else.
    """
    end_s = monotonic() + deadline_s
    told, before = "", None
    proved = not barriers
    while True:
        try:
            now = still(sources, topics)
            busy = now.look.busy or _behind(sources, topics, now)
            if not busy and not proved:
                busy = _send_and_await_barriers(sources, topics, end_s)
                proved = not busy
                now = still(sources, topics)
            if not busy and now != before:
                busy = "settling"
        except UnreadableError as error:
            now, busy = None, str(error)
        if not busy:
            return ""
        if busy not in (told, "settling"):
            progress(busy)
            told = busy
        if monotonic() >= end_s:
            return busy
        before = now
        sleep(min(pause_s, max(0.0, end_s - monotonic())))


def still(sources: Sources, topics: Topics) -> Still:
    """What may not change between two looks. Raises UnreadableError."""
    spans = topics.spans(topics.names())
    path = sources.gateway_ledger
    return Still(
        look(sources.dsn),
        {place: span.end for place, span in spans.items()},
        _size(path) if path else 0,
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def look(dsn: str) -> Look:
    """Look at PostgreSQL once. Raises UnreadableError when it does not answer."""
    try:
        with closing(psycopg2.connect(dsn, connect_timeout=CONNECT_TIMEOUT_S)) as connection:
            connection.set_session(readonly=True)
            with connection.cursor() as cursor:
                cursor.execute(_LOOK)
                seen = Look(*_counts(cursor))
                if not seen.busy:
                    cursor.execute(_UNDECIDED)
                    seen = seen._replace(undecided=_counts(cursor)[0])
    except psycopg2.Error as error:
        raise UnreadableError(f"PostgreSQL: {' '.join(str(error).split())}") from None
    return seen


def _counts(cursor: Any) -> tuple[int, ...]:
    counts: tuple[int, ...] | None = cursor.fetchone()
    assert counts is not None, "a select of counts has one row"
    return counts


def _behind(sources: Sources, topics: Topics, now: Still) -> str:
    """Partitions whose committed offset is not their end, retries that wait included."""
    lagging = []
    read = _consumers(sources)
    for role, names in {**read, ROLE_OF_RAW: RETRY_TIERS}.items():
        committed = topics.committed(f"{sources.namespace}-{role}")
        lagging += [
            f"{topic}[{part}] of {role}"
            for (topic, part), end in sorted(now.ends.items())
            if _reads(role, names, topic) and end > committed.get((topic, part), 0)
        ]
    if not lagging:
        return ""
    shown = ", ".join(lagging[:SHOWN_MAX])
    return f"not finished: {shown}" + (" ..." if len(lagging) > SHOWN_MAX else "")


def _reads(role: str, names: tuple[str, ...], topic: str) -> bool:
    return topic in names or (role in (ROLE_OF_RAW, COUNTER) and topic.endswith(DEAD_LETTER_SUFFIX))


def _consumers(sources: Sources) -> Mapping[str, tuple[str, ...]]:
    return consumers(notified=sources.notified, counted=ever_ran(sources.dsn, COUNTER))


def _send_and_await_barriers(sources: Sources, topics: Topics, end_s: float) -> str:
    """Write one barrier to every partition and wait for every consumer's inbox row."""
    readers = _consumers(sources)
    awaited = {name: read for name, read in readers.items() if name not in OPTIONAL_CONSUMERS}
    names = [topic for read in awaited.values() for topic in read]
    sent = _send(sources.bootstrap, topics.spans(names))
    wanted = {
        (consumer, nonce)
        for consumer, read in awaited.items()
        for (topic, _), nonce in sent.items()
        if topic in read
    }
    until_s = min(end_s, monotonic() + BARRIER_TIMEOUT_S)
    while missing := wanted - _passed(sources.dsn, list(sent.values())):
        if monotonic() >= until_s:
            places = {nonce: f"{topic}[{part}]" for (topic, part), nonce in sent.items()}
            listed = sorted(f"{consumer} at {places[nonce]}" for consumer, nonce in missing)
            more = " ..." if len(listed) > SHOWN_MAX else ""
            return f"no barrier came through: {', '.join(listed[:SHOWN_MAX])}{more}"
        sleep(0.1)
    return ""


def _send(bootstrap: str, places: Mapping[Place, Any]) -> dict[Place, str]:
    """Write barriers with nonces of their own; raises UnreadableError unless all are taken."""
    refused: list[str] = []

    def delivered(error: Any, _: Any) -> None:
        if error is not None:
            refused.append(str(error))

    producer = Producer(
        {"bootstrap.servers": bootstrap, "message.timeout.ms": int(SEND_TIMEOUT_S * 1000),
         "log_level": 0}
    )  # fmt: skip
    sent = {place: str(uuid.uuid4()) for place in places}
    for (topic, partition), nonce in sent.items():
        producer.produce(
            topic,
            key=nonce.encode(),
            value=msgspec.json.encode({"nonce": nonce}),
            partition=partition,
            headers=[
                ("ce_specversion", b"1.0"),
                ("ce_id", nonce.encode()),
                ("ce_source", b"auditor"),
                ("ce_type", BARRIER_TYPE.encode()),
                ("content-type", b"application/json"),
            ],
            on_delivery=delivered,
        )
    if producer.flush(SEND_TIMEOUT_S) or refused:
        why = refused[0] if refused else "no answer"
        raise UnreadableError(f"Kafka at {bootstrap}: a barrier was not taken: {why}")
    return sent


def _passed(dsn: str, nonces: list[str]) -> set[tuple[str, str]]:
    try:
        with closing(psycopg2.connect(dsn, connect_timeout=CONNECT_TIMEOUT_S)) as connection:
            connection.set_session(readonly=True, autocommit=True)
            with connection.cursor() as cursor:
                cursor.execute(_PASSED, (nonces,))
                return set(cursor.fetchall())
    except psycopg2.Error as error:
        raise UnreadableError(f"PostgreSQL: {' '.join(str(error).split())}") from None
