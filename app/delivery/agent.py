"""The loop of every agent: take a poll, run its step, tick in between, end the process on doubt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from app.delivery.batch import BatchTopic
from app.delivery.events import TellingHandler, TickHandler
from app.delivery.exits import Reason, end_process
from app.delivery.pace import Pace
from app.delivery.patience import Abandoned
from app.delivery.reporting import REPORT_S, Reporter
from app.delivery.state import BatchState
from app.delivery.step import ConsumerSpec, Step
from app.delivery.tables import Table
from app.delivery.ticks import Ticker
from app.topics import TopicSpec

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord

    from app.delivery.app import App

TICK_LOOK_S = 0.2


class StepRunner:
    """One consumer of a worker: its step, its ticks and the lock that keeps them apart."""

    def __init__(self, app: App, spec: ConsumerSpec) -> None:
        self._app = app
        self.spec = spec
        self.step = Step(app, spec)
        handler = spec.handler if isinstance(spec.handler, TickHandler) else None
        self._ticker = Ticker(app, spec.name, self.step, handler)
        telling = spec.handler if isinstance(spec.handler, TellingHandler) else None
        self.reporter = Reporter(app, spec.name, spec.topics, self.step.state, telling)
        idle_ms = app.role.fetch_pace_ms or app.settings.fetch_pace_ms
        self._pace = Pace(idle_ms, app.settings.fetch_busy_pace_ms)
        self._lock = asyncio.Lock()
        self._prepared = -1

    async def consume(self, stream: Any) -> None:
        """The agent's body. Ordering: per partition, in offset order. Delivery: at least once;
        an event is acknowledged to Kafka only after all its effects are."""
        async for event in stream.noack().events():
            message, consumer = event.message, self._app.consumer
            async with self._lock:
                if consumer.begin(message):
                    began_s = monotonic()
                    try:
                        await self._prepare()
                        await self.step.run(message)
                    except Abandoned:
                        consumer.abandon(message)
                    except BaseException as error:
                        # CancelledError too: a half-run step must not linger in this process
                        end_process(Reason.FAILURE, f"{self.spec.name}: {error!r}")
                    finally:
                        self.step.state.enter(BatchState.IDLE)
                    consumer.set_pace(self._pace.after_step(began_s, monotonic()))
            event.ack()

    async def tick_forever(self) -> None:
        """Run due ticks until the worker stops."""
        while not self._app.should_stop:
            await self._app.sleep(TICK_LOOK_S)
            async with self._lock:
                ticket = self._app.consumer.begin_tick()
                if ticket is None:
                    continue
                self.step.state.enter(BatchState.WORKING)
                try:
                    await self._prepare()
                    await self._ticker.run_due(self.spec.topics)
                except Abandoned:
                    # the partitions' next owner finds the same work due
                    self._app.consumer.positions.stat["abandoned"] += 1
                except BaseException as error:
                    end_process(Reason.FAILURE, f"{self.spec.name}: tick: {error!r}")
                finally:
                    self._app.consumer.end_tick(ticket)
                    self.step.state.enter(BatchState.IDLE)

    async def _prepare(self) -> None:
        """Once per epoch, before its first step: what must be rebuilt for the assignment."""
        consumer = self._app.consumer
        epoch = consumer.epoch
        if self._prepared == epoch:
            return
        mine = [tp for tp in consumer.positions.done if tp.topic in self.spec.topics]
        await self.step.flood.prepare()
        await self._app.killer.prepare(self.spec.name, mine, self.step.patience)
        await self._ticker.recovered(sorted({tp.partition for tp in mine}))
        self._prepared = epoch

    async def report_forever(self) -> None:
        """Keep the gauges fresh, a held or long step included, until the worker stops."""
        while not self._app.should_stop:
            await self._app.sleep(REPORT_S)
            self.reporter.refresh()


def consume(
    app: App,
    *,
    name: str,
    topics: Sequence[TopicSpec],
    handler: Any,
    idempotency: Table | None = None,
    tables: Sequence[Table] = (),
    raw: bool = False,
    known_by: Callable[[ConsumerRecord], str] | None = None,
) -> None:
    """Declare an agent of the running role over `topics`, delivered at least once with effects
    once.

    `name` is the consumer's name in the inbox and must never change. Within a batch, topics
    earlier in `topics` come first. `handler` is a Handler or CallingHandler, and may also be a
    FailureNotices, TickHandler, DueHandler, RestoringHandler, SelectiveHandler, TableObserver or
    TellingHandler. With `raw` the records are not read: events have no body, their id is what
    `known_by` says, by default where they stand, and none is poison.
    """
    names = tuple(topic.name for topic in topics)
    by_name = {table.name: table for table in (*tables, idempotency) if table is not None}
    runner = StepRunner(
        app, ConsumerSpec(name, names, handler, idempotency, by_name, raw, known_by)
    )
    app.runners.append(runner)
    app.batch_topics.update(names)
    channel = BatchTopic(app, topics=list(names), key_type=bytes, value_type=bytes)

    async def agent(stream: Any) -> None:
        await runner.consume(stream)

    agent.__doc__ = type(handler).__doc__
    app.agent(channel, name=name, concurrency=1)(agent)

    async def ticks() -> None:
        await runner.tick_forever()

    async def reports() -> None:
        await runner.report_forever()

    app.task(ticks)
    app.task(reports)
