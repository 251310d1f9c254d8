"""A service of role `slo`: reads Kafka and PostgreSQL every few seconds and shows the figures.

It stands beside the role's consumers and never holds them up. Every worker of the role reports the
same. A source that does not answer makes its figures absent once they are older than
`slo_stale_after_s`: one failed round clears nothing, for alerts on what it shows would begin anew.
`symphony_census_age_seconds` says how old they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import mode

from app.census.kafka import KafkaBooks, KafkaCensus
from app.db import census
from app.db.census import Books
from app.domain.definition import FINAL, State
from app.observability import metrics
from app.observability.logging import get_log
from app.topics import DEAD_LETTER_TOPICS

if TYPE_CHECKING:
    from app.delivery.app import App

log = get_log(__name__)

Take = Callable[[], Awaitable[None]]
"""Asks a source once and shows what it says."""

KAFKA, POSTGRES = metrics.CENSUS_SOURCES
_OF_KAFKA = (metrics.CONSUMER_LAG, metrics.CONSUMER_LAG_AGE, metrics.CONSUMER_MEMBERS)
_OF_POSTGRES = (
    metrics.SAGA_ACTIVE,
    metrics.SAGA_OLDEST_AGE,
    metrics.SAGA_STUCK,
    metrics.DLQ_DEPTH,
    metrics.DLQ_OLDEST_AGE,
    metrics.OUTBOX_PENDING,
    metrics.OUTBOX_OLDEST_AGE,
    metrics.OUTBOX_PARKED,
    metrics.POSTGRES_CONNECTIONS,
    metrics.POSTGRES_CONNECTIONS_MAX,
    metrics.POSTGRES_OLDEST_TRANSACTION,
    metrics.POSTGRES_BYTES,
    metrics.STOCK_LOW,
)


class CensusService(mode.Service):
    """Takes the census between the worker's start and stop; each source at its own pace."""

    def __init__(self, app: App) -> None:
        super().__init__()
        self._app = app
        self._kafka = KafkaCensus(app.settings, lambda: app.clock.now().timestamp())
        self._tasks: list[asyncio.Task[None]] = []
        self._failed: set[str] = set()
        self._taken_s: dict[str, float] = {}

    async def on_start(self) -> None:
        """Begin; does not wait for an answer."""
        self._tasks = [
            asyncio.create_task(self._forever(KAFKA, self.of_kafka), name="census of Kafka"),
            asyncio.create_task(self._forever(POSTGRES, self.of_postgres), name="census of books"),
        ]

    async def on_stop(self) -> None:
        """Take no more; what was shown goes away."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._kafka.close()
        clear_kafka()
        clear_postgres()

    async def of_kafka(self) -> None:
        """One round of Kafka."""
        show_kafka(await self._kafka.ask())

    async def of_postgres(self) -> None:
        """One round of PostgreSQL."""
        async with asyncio.timeout(self._app.settings.census_timeout_s):
            show_postgres(await census.take(self._app.db))

    async def _forever(self, source: str, take: Take) -> None:
        while True:
            await self.once(source, take)
            await asyncio.sleep(self._app.settings.census_interval_s)

    async def once(self, source: str, take: Take) -> None:
        """One round of a source; a failed one leaves what the last one showed, until it is old."""
        try:
            await take()
        except Exception as error:
            if self._is_old(source):
                clear_kafka() if source == KAFKA else clear_postgres()
            metrics.CENSUS_ROUNDS.child(source, "failed").inc()
            if source not in self._failed:
                self._failed.add(source)
                log.warning(
                    "census.failed", source=source, reason=f"{type(error).__name__}: {error}"
                )
            return
        metrics.CENSUS_ROUNDS.child(source, "ok").inc()
        clock = self._app.clock
        taken_s = self._taken_s[source] = clock.monotonic()
        metrics.CENSUS_AGE.child(source).set_function(lambda: clock.monotonic() - taken_s)
        if source in self._failed:
            self._failed.discard(source)
            log.info("census.answered", source=source)

    def _is_old(self, source: str) -> bool:
        """Whether what is shown of a source says nothing any more of how it is."""
        taken_s = self._taken_s.get(source)
        stale_after_s = self._app.settings.slo_stale_after_s
        return taken_s is None or self._app.clock.monotonic() - taken_s > stale_after_s


def show_kafka(books: KafkaBooks) -> None:
    """Show one round of Kafka; what it does not say goes away."""
    clear_kafka()
    for role, members in books.members.items():
        metrics.CONSUMER_MEMBERS.child(role).set(members)
    for lag in books.lags:
        metrics.CONSUMER_LAG.child(lag.role, lag.topic).set(lag.records)
        if lag.age_s is not None:
            metrics.CONSUMER_LAG_AGE.child(lag.role, lag.topic).set(round(lag.age_s, 3))


def clear_kafka() -> None:
    """Nothing is known of Kafka."""
    for family in _OF_KAFKA:
        family.forget()


def show_postgres(books: Books) -> None:
    """Show one round of PostgreSQL; what it does not say goes away."""
    clear_postgres()
    running = dict.fromkeys((state.value for state in State if state not in FINAL), 0)
    for state, count in {**running, **{s: one.number for s, one in books.sagas.items()}}.items():
        metrics.SAGA_ACTIVE.child(state).set(count)
    for state, sagas in books.sagas.items():
        metrics.SAGA_OLDEST_AGE.child(state).set(max(0.0, sagas.oldest_s))
    metrics.SAGA_STUCK.child().set(sum(one.stuck for one in books.sagas.values()))
    for topic in {spec.name for spec in DEAD_LETTER_TOPICS.values()} | books.letters.keys():
        metrics.DLQ_DEPTH.child(topic).set(
            books.letters[topic].number if topic in books.letters else 0
        )
    oldest_letters = [one.oldest_s for one in books.letters.values()]
    metrics.DLQ_OLDEST_AGE.child().set(max(0.0, *oldest_letters) if oldest_letters else 0.0)
    metrics.OUTBOX_PENDING.child().set(books.outbox_rows)
    metrics.OUTBOX_OLDEST_AGE.child().set(max(0.0, books.outbox_oldest_s or 0.0))
    metrics.OUTBOX_PARKED.child().set(books.outbox_parked)
    for state, count in books.connections.items():
        metrics.POSTGRES_CONNECTIONS.child(state).set(count)
    if books.connections_max is not None:
        metrics.POSTGRES_CONNECTIONS_MAX.child().set(books.connections_max)
    if books.oldest_transaction_s is not None:
        metrics.POSTGRES_OLDEST_TRANSACTION.child().set(books.oldest_transaction_s)
    metrics.POSTGRES_BYTES.child().set(books.database_bytes)
    metrics.STOCK_LOW.child("low").set(books.stock_low)
    metrics.STOCK_LOW.child("critical").set(books.stock_critical)


def clear_postgres() -> None:
    """Nothing is known of PostgreSQL."""
    for family in _OF_POSTGRES:
        family.forget()
