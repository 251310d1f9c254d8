"""The micro-batching writer: concurrent order requests share one transaction.

Guarantees: an order is answered as accepted only after its COMMIT; a bad row fails alone; of all
requests with one idempotency key one creates an order; the line of those that wait is bounded by
count and by time, and who finds no room is refused at once (`web.api.line`). Order between
concurrent requests is not kept. Batches start at most every `api_batch_pace_ms`: a lone request
waits for nobody, a stream of them shares transactions.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter, deque
from collections.abc import Sequence
from typing import NamedTuple

from app.clock import Clock
from app.db import intake
from app.db.engine import Database, Transaction
from app.errors import DatabaseOutage, SymphonyError, TransientDatabase
from app.failpoints import failpoint
from app.observability import metrics
from app.observability.logging import get_log
from app.observability.tracing import now_ns
from app.settings import Settings
from app.trace_context import trace_id_of
from web.api.drafts import Draft, Priced, finish, price
from web.api.line import Bounds, Line, has_room, paced
from web.api.screening import Screen, count
from web.messages import committed, source_of
from web.problems import Problem, unavailable

log = get_log(__name__)

RETRY_PAUSE_S = 0.02


class Stored(NamedTuple):
    """An accepted order: the reply's JSON, and whether an earlier request had created it."""

    order_id: str
    reply: bytes
    replayed: bool


class Waiting(NamedTuple):
    """A draft in the queue, who waits for it and since when (time of the event loop)."""

    draft: Draft
    done: asyncio.Future[Stored]
    since: float


class Queue(asyncio.Queue[Waiting]):
    """A queue that knows since when its first waits."""

    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self._since: deque[float] = deque()

    def _put(self, item: Waiting) -> None:
        super()._put(item)
        self._since.append(item.since)

    def _get(self) -> Waiting:
        self._since.popleft()
        return super()._get()

    def line(self, now: float, pace_s: float) -> Line:
        """Return what stands here at `now`."""
        first = self._since[0] if self._since else now
        return Line(self.qsize(), now - first, pace_s)


class OrderWriter:
    """`start` it, `store` drafts concurrently, `stop` it: what is queued then is still written."""

    def __init__(self, settings: Settings, db: Database, clock: Clock) -> None:
        self._settings = settings
        self._db = db
        self._clock = clock
        self._source = source_of(settings)
        self._screen = Screen(settings)
        self._queue = Queue(settings.api_queue_max)
        self._bounds = Bounds(
            settings.api_queue_max, settings.api_queue_wait_max_ms / 1000, settings.api_batch_max
        )
        self._pace_s = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._turn = asyncio.Lock()
        self._begun_at = 0.0

    async def start(self) -> None:
        """Start `api_writers` writers."""
        self._tasks = [
            asyncio.create_task(self._run(), name=f"order-writer-{number}")
            for number in range(self._settings.api_writers)
        ]
        metrics.API_QUEUE.child().set_function(self._queue.qsize)

    async def stop(self) -> None:
        """Write what is queued, at most `drain_grace_s`, then stop the writers."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_grace_s):
                await self._queue.join()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def store(self, draft: Draft) -> Stored:
        """Store `draft`; returns once it is durable.

        Raises Problem (422 refused, 503 no room in the line), DatabaseOutage (it may have happened)
        or TransientDatabase. Cancelling it while queued takes the draft out.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        if not has_room(self._queue.line(now, self._pace_s), self._bounds):
            metrics.API_REFUSED.child("orders").inc()
            raise unavailable("overloaded", "Too many orders are waiting; try again.")
        done: asyncio.Future[Stored] = loop.create_future()
        self._queue.put_nowait(Waiting(draft, done, now))
        return await done

    async def _run(self) -> None:
        while True:
            batch = await self._take()
            try:
                await self._timed([one for one in batch if not one.done.done()])
            finally:
                for one in batch:
                    self._queue.task_done()
                    _refuse(one, stopping())

    async def _take(self) -> list[Waiting]:
        """Return the next batch, at least one, not before its time unless it is full."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            batch = [await self._queue.get()]
            pause_s = self._begun_at + self._settings.api_batch_pace_ms / 1000 - loop.time()
            if pause_s > 0 and self._queue.qsize() < self._settings.api_batch_max:
                try:
                    await asyncio.sleep(pause_s)
                except asyncio.CancelledError:
                    _refuse(batch[0], stopping())
                    raise
            while len(batch) < self._settings.api_batch_max and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            self._begun_at = loop.time()
        return batch

    async def _timed(self, batch: Sequence[Waiting]) -> None:
        """Write a batch, if anybody waits for it still, and learn from it how fast that goes."""
        if not batch:
            return
        loop = asyncio.get_running_loop()
        began = loop.time()
        await self._write(batch)
        self._pace_s = paced(self._pace_s, loop.time() - began, self._settings.api_writers)

    async def _write(self, batch: Sequence[Waiting]) -> None:
        metrics.API_BATCH.child().observe(len(batch))
        try:
            results = await self._attempt([one.draft for one in batch])
        except SymphonyError as error:
            for one in batch:
                _refuse(one, type(error)(error.detail))
        except Exception as error:
            await self._isolate(batch, error)
        else:
            for one, result in zip(batch, results, strict=True):
                _answer(one, result)

    async def _isolate(self, batch: Sequence[Waiting], error: Exception) -> None:
        """Halve a failed batch until the bad draft stands alone."""
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._write(batch[:middle])
            await self._write(batch[middle:])
            return
        draft = batch[0].draft
        log.error(
            "api.order_refused",
            error=error,
            order_id=draft.order_id,
            correlation_id=draft.request_id,
            trace_id=trace_id_of(draft.traceparent),
        )
        _refuse(batch[0], Problem(422, "not_storable", "The database refuses this order."))

    async def _attempt(self, drafts: Sequence[Draft]) -> list[Stored | Problem]:
        """Store a batch; contention is retried `db_retries_max` times, a lost connection once.

        One loss says little: after a restart of PostgreSQL every pooled connection is dead.
        """
        outages = conflicts = 0
        while True:
            try:
                await failpoint("web.before_transaction")
                async with self._db.transaction() as tx:
                    return await self._apply(tx, drafts, again=outages > 0)
            except DatabaseOutage:
                outages += 1
                if outages > 1:
                    raise
            except TransientDatabase:
                conflicts += 1
                if conflicts > self._settings.db_retries_max:
                    raise
                await asyncio.sleep(RETRY_PAUSE_S * random.random() * 2**conflicts)

    async def _apply(
        self, tx: Transaction, drafts: Sequence[Draft], *, again: bool = False
    ) -> list[Stored | Problem]:
        skus = {line.product_id for draft in drafts for line in draft.request.lines}
        prices = await intake.prices(tx, sorted(skus)) if skus else {}
        now, began_ns = self._clock.now(), now_ns()
        priced = [price(draft, prices) for draft in drafts]
        candidates = [one for one in priced if isinstance(one, Priced)]
        screened = await self._screen.screen(tx, candidates, again=again)
        orders = [
            one if isinstance(one, Problem) else finish(one, screened[one.order_id], self._source)
            for one in priced
        ]
        firsts: dict[str, intake.NewOrder] = {}
        for order in orders:
            if isinstance(order, intake.NewOrder) and order.key:
                firsts.setdefault(order.key, order)
        holders = await intake.claim(tx, list(firsts.values()), now)
        for key, first in firsts.items():
            holders.setdefault(key, intake.Claim(first.order_id, first.body_hash, first.reply))
        new = [
            order
            for order in orders
            if isinstance(order, intake.NewOrder)
            and (not order.key or holders[order.key].order_id == order.order_id)
        ]
        if new:
            intake.insert(tx, new, now)
        await failpoint("web.before_commit")
        await tx.commit()
        await failpoint("web.after_commit")
        parents = {draft.order_id: draft.traceparent for draft in drafts}
        for order in new:
            committed(order.events, parents[order.order_id], began_ns)
        count(Counter(screened[order.order_id].status for order in new))
        return [
            order if isinstance(order, Problem) else _result(order, holders.get(order.key))
            for order in orders
        ]


def stopping() -> Problem:
    """Return the 503 of a draft that was still waiting when the writers stopped."""
    return unavailable("stopping", "This server is stopping; try again.")


def _result(order: intake.NewOrder, holder: intake.Claim | None) -> Stored | Problem:
    if holder is None or holder.order_id == order.order_id:
        return Stored(order.order_id, order.reply, replayed=False)
    if holder.body_hash != order.body_hash:
        return Problem(
            422, "idempotency_key_reused", "This Idempotency-Key was used for another request."
        )
    return Stored(holder.order_id, holder.reply, replayed=True)


def _answer(waiting: Waiting, result: Stored | Problem) -> None:
    if isinstance(result, Problem):
        _refuse(waiting, result)
    elif not waiting.done.done():
        waiting.done.set_result(result)


def _refuse(waiting: Waiting, error: Exception) -> None:
    if not waiting.done.done():
        waiting.done.set_exception(error)
