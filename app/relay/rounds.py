"""One round of the relay: read, publish, delete.

Guarantees: a row is deleted only after the broker acknowledged it, in a transaction that proves
the lease of its shard; rows of one aggregate are first published in the order of their ids. A
crash anywhere publishes again, never less: consumers drop the repeat by its event id.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from aiokafka.errors import KafkaError

from app.db import leases, outbox
from app.failpoints import failpoint
from app.messages.deadletter import traceparent_of
from app.observability import metrics, tracing
from app.observability.logging import get_log
from app.observability.messaging import log_fields, record_send
from app.relay.publisher import is_hopeless, is_refusal
from app.relay.refusals import Refusals, Refused
from app.trace_context import child, is_sampled, span_id_of, span_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.clock import Clock
    from app.db.engine import Database, Transaction
    from app.db.outbox import OutboxRow
    from app.relay.ownership import Ownership
    from app.relay.publisher import Outlet
    from app.taps import Taps

log = get_log(__name__)


class Rounds:
    """Runs rounds one after another; not safe for two tasks at a time."""

    def __init__(
        self,
        db: Database,
        ownership: Ownership,
        outlet: Outlet,
        clock: Clock,
        batch_max: int,
        taps: Taps,
    ) -> None:
        self._db = db
        self._ownership = ownership
        self._outlet = outlet
        self._clock = clock
        self._batch_max = batch_max
        self._taps = taps
        self._refusals = Refusals()

    async def run(self) -> int:
        """Publish at most `batch_max` rows of the shards we own; return how many were taken up.

        Raises the Kafka client's error when the way to the broker is at fault, TransientDatabase
        or DatabaseOutage when PostgreSQL is: then nothing was deleted, and the next round repeats.
        """
        epochs = self._ownership.take()
        try:
            return await self._round(epochs) if epochs else 0
        finally:
            self._ownership.put_back()

    async def _round(self, epochs: Mapping[int, int]) -> int:
        held = self._refusals.held(monotonic())
        rows = await outbox.read(self._db, list(epochs), self._batch_max, held)
        if not rows:
            return 0
        await failpoint("relay.before_publish")
        if not self._ownership.is_valid():
            return 0
        refused: list[Refused] = []
        began_ns = tracing.now_ns()
        await self._publish(rows, refused)
        await failpoint("relay.after_publish")
        skipped = {one.row.aggregate_id for one in refused}
        published = [row for row in rows if row.aggregate_id not in skipped]
        published += _before_refusal(rows, refused)
        self._observe(published)
        _record(published, began_ns)
        await self._delete(epochs, published, refused)
        return len(rows)

    async def _publish(self, rows: Sequence[OutboxRow], refused: list[Refused]) -> None:
        """Publish `rows` in order; what is refused ends up alone in `refused`.

        A batch with a refused record is split, because the error does not say which one it was.
        """
        stuck = {one.row.aggregate_id for one in refused}
        rows = [row for row in rows if row.aggregate_id not in stuck]
        if not rows:
            return
        out = self._outlet.open()
        try:
            for row in rows:
                taps = self._taps
                for record in await taps.on_send(row.output) if taps.outgoing else (row.output,):
                    await out.add(record.topic, None, record.key, record.value, record.headers)
            await failpoint("relay.before_flush")
            await out.flush()
        except (KafkaError, ValueError, TypeError) as error:
            await self._outlet.reset()
            if not is_refusal(error):
                raise
            if len(rows) == 1:
                why = f"{type(error).__name__}: {error}"
                refused.append(Refused(rows[0], why[:500], is_hopeless(error)))
                return
        else:
            return
        middle = len(rows) // 2
        await self._publish(rows[:middle], refused)
        await self._publish(rows[middle:], refused)

    async def _delete(
        self,
        epochs: Mapping[int, int],
        published: Sequence[OutboxRow],
        refused: Sequence[Refused],
    ) -> None:
        """Delete what was acknowledged and record refusals, if the shards are still ours."""
        owner = self._ownership.owner
        ids = [row.id for row in published]
        async with self._db.transaction() as tx:
            deleted = await leases.delete_published(tx, owner, epochs, ids)
            still_ours = deleted == len(ids)
            if still_ours:
                for one in refused:
                    self._settle(tx, one)
            await failpoint("relay.after_delete")
        await failpoint("relay.after_delete_commit")
        if not still_ours:
            # Somebody else has one of them: forget all, the next renewal tells which are ours.
            self._ownership.lost(list(epochs))

    def _settle(self, tx: Transaction, refused: Refused) -> None:
        row = refused.row
        parked = self._refusals.must_park(refused)
        log.warning(
            "relay.refused",
            **log_fields(row.output.topic, row.output.key, row.output.headers),
            attempts=row.attempts + 1,
            parked=parked,
            error=refused.error,
        )
        if parked:
            outbox.park(tx, row.id, refused.error)
            tx.after_commit(metrics.RELAY_PARKED.child(row.output.topic).inc)
        else:
            outbox.count_refusal(tx, [row.id])
            self._refusals.hold(row, monotonic())

    def _observe(self, published: Sequence[OutboxRow]) -> None:
        now = self._clock.now()
        seconds = metrics.RELAY_PUBLISH_SECONDS.child()
        counts: dict[str, int] = {}
        for row in published:
            seconds.observe(max(0.0, (now - row.created_at).total_seconds()))
            counts[row.output.topic] = counts.get(row.output.topic, 0) + 1
        for topic, count in counts.items():
            metrics.RELAY_PUBLISHED.child(topic).inc(count)
        metrics.RELAY_BATCH_ROWS.child().observe(len(published))


def _record(published: Sequence[OutboxRow], began_ns: int) -> None:
    """Record what was sent below the span of the message, which was made with its effect."""
    if not tracing.on():
        return
    for row in published:
        message = traceparent_of(row.output.headers)
        if is_sampled(message):
            record_send(
                row.output,
                child(message, span_of(span_id_of(message), "relay")),
                message,
                start_ns=began_ns,
                extra={"symphony.outbox_row": row.id},
            )


def _before_refusal(rows: Sequence[OutboxRow], refused: Sequence[Refused]) -> list[OutboxRow]:
    """Rows of refused aggregates that stand before the refused one: those were acknowledged."""
    first = {one.row.aggregate_id: one.row.id for one in refused}
    return [row for row in rows if row.id < first.get(row.aggregate_id, 0)]
