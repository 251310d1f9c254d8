"""Defects of the delivery core and of the relay."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import app.delivery.decoding
from app import ids
from app.db import leases
from app.delivery.consumer import Consumer
from app.delivery.effects import Effects
from app.delivery.idempotency import IdempotencyTable
from app.delivery.outputs import Acked, Outputs
from app.delivery.precedence import Precedence
from app.delivery.step import Step
from app.delivery.ticks import Ticker
from app.relay.rounds import Rounds
from chaos.naive.unsafe_resume import UnguardedPositions
from chaos.simulation import group
from chaos.simulation.plants.registry import plant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.delivery.batch import BatchMessage
    from app.delivery.effects import Finished
    from app.delivery.events import Event
    from app.relay.publisher import Publisher
    from app.relay.refusals import Refused
    from chaos.simulation.plants.registry import Planting


@plant("ack-before-effect")
def ack_before_effect(planting: Planting) -> None:
    """The watermark moves and is committed before the step, as at-most-once consumers do."""

    async def run(self: Step, message: BatchMessage) -> None:
        done = message.spans
        self._app.consumer.finish(message)
        await self._app.consumer.commit_batches()
        message.spans = []
        await run_step(self, message)
        message.spans = done

    run_step = Step.run
    planting.replace(Step, "run", run)


@plant("outputs-not-awaited")
def outputs_not_awaited(planting: Planting) -> None:
    """Records are sent without awaiting their acknowledgements."""

    async def flush(self: Outputs) -> list[Acked]:
        waiting = [(tp, batch.record_count()) for tp, batch in self._open.items()]
        opened, self._open = self._open, {}

        async def send() -> None:
            await asyncio.sleep(0.05)
            for (topic, partition), batch in opened.items():
                await self._producer.send_batch(batch, topic, partition=partition)

        asyncio.get_running_loop().create_task(send())
        return [Acked(topic, partition, 0, count) for (topic, partition), count in waiting]

    planting.replace(Outputs, "flush", flush)


@plant("repeat-without-outputs")
def repeat_without_outputs(planting: Planting) -> None:
    """A repeated event is dropped, and its stored outputs are not published again."""

    async def look_up(
        self: Effects, tx: Any, events: Sequence[Event]
    ) -> tuple[dict[str, Finished], list[Event]]:
        known, fresh = await looked_up(self, tx, events)
        return {key: one._replace(outputs=()) for key, one in known.items()}, fresh

    looked_up = Effects._look_up
    planting.replace(Effects, "_look_up", look_up)

    def split(
        self: IdempotencyTable, events: Sequence[Event]
    ) -> tuple[list[Event], list[Finished]]:
        fresh, seen = was_split(self, events)
        return fresh, [one._replace(outputs=()) for one in seen]

    was_split = IdempotencyTable.split
    planting.replace(IdempotencyTable, "split", split)


@plant("order-id-dedupe")
def order_id_dedupe(planting: Planting) -> None:
    """Events are deduplicated by their order's id instead of their own."""

    def by_order(record: Any, decoded: Any) -> Event:
        event = to_event(record, decoded)
        return event._replace(event_id=ids.event_id(event.body.order_id, "seen"))

    to_event = app.delivery.decoding.to_event
    planting.replace(app.delivery.decoding, "to_event", by_order)


@plant("no-position-guard")
def no_position_guard(planting: Planting) -> None:
    """A fetch from the wrong place is believed, as stock Faust does."""
    planting.replace(group, "Positions", UnguardedPositions)


@plant("opens-between-assignments")
def opens_between_assignments(planting: Planting) -> None:
    """A recovery that ends after a revocation opens the partitions, as stock Faust does."""

    def release(self: Consumer) -> None:
        self.released = self._positioned

    planting.replace(Consumer, "release", release)


@plant("no-precedence")
def no_precedence(planting: Planting) -> None:
    """What a dead worker left unpublished is published when its own record is read again."""

    def unsure(self: Precedence, events: Sequence[Event], known: object) -> list[Event]:
        return []

    planting.replace(Precedence, "unsure", unsure)


@plant("ticks-forgotten")
def ticks_forgotten(planting: Planting) -> None:
    """What a dead worker's timers had decided is not published by its successor."""

    async def unsent(self: Ticker, partitions: Sequence[int]) -> list[Finished]:
        del self, partitions
        return []

    planting.replace(Ticker, "_unsent", unsent)


@plant("stale-copy-believed")
def stale_copy_believed(planting: Planting) -> None:
    """An event that changes nothing by the working copy is not looked up in PostgreSQL."""
    from app.domain.batch import Move

    planting.replace(Move, "doubtful", False)


@plant("relay-deletes-first")
def relay_deletes_first(planting: Planting) -> None:
    """The relay deletes its rows before it publishes them."""

    async def publish(self: Rounds, rows: Sequence[Any], refused: list[Refused]) -> None:
        epochs = dict(self._ownership._epochs)
        async with self._db.transaction() as tx:
            await leases.delete_published(
                tx, self._ownership.owner, epochs, [row.id for row in rows]
            )
        await published(self, rows, refused)

    async def delete(self: Rounds, *_: object) -> None:
        del self

    published = Rounds._publish
    planting.replace(Rounds, "_publish", publish)
    planting.replace(Rounds, "_delete", delete)


@plant("relay-not-awaited")
def relay_not_awaited(planting: Planting) -> None:
    """The relay deletes without having awaited the acknowledgements."""

    async def publish(self: Rounds, rows: Sequence[Any], refused: list[Refused]) -> None:
        del refused
        out: Publisher = self._outlet.open()

        async def send() -> None:
            for row in rows:
                record = row.output
                await out.add(record.topic, None, record.key, record.value, record.headers)
            await asyncio.sleep(0.05)
            await out.flush()

        asyncio.get_running_loop().create_task(send())

    planting.replace(Rounds, "_publish", publish)
