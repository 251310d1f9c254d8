"""What the tests of jobs on dead letters share: letters, sagas, workers, what Kafka holds."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from agents.dlq import letter as letter_of
from app import ids
from app.clock import ManualClock
from app.db import dead_letter_jobs as jobs
from app.db import deadletters
from app.db.dead_letter_selection import matching
from app.db.engine import Database, statement
from app.delivery.decoding import raw_events
from app.domain.definition import DEFAULT_POLICY
from app.domain.record import Saga, to_bytes
from app.domain.saga import Applied, Incoming, decide
from app.errors import GatewayUnavailable
from app.messages import (
    Cause,
    OrderCancel,
    OrderCreated,
    Output,
    PaymentRequested,
    deadletter,
    emit,
)
from app.messages.orders import Item
from app.redrive.worker import RedriveWorker
from app.settings import Settings
from app.topics import ORDER_CANCEL, PAYMENT_REQUESTED
from tests.integration.test_dlq import consumed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from app.db.deadletters import DeadLetter
    from app.messages import Body

NOW = datetime.now(UTC)
INSERT_SAGA = statement(
    "insert into orders.saga (order_id, partition, version, state, reason, terminal, body,"
    " created_at, updated_at) values (:order_id, 0, :version, :state, :reason, :terminal, :body,"
    " :now, :now) on conflict (order_id) do update set state = excluded.state,"
    " reason = excluded.reason, terminal = excluded.terminal, body = excluded.body"
)
INBOX_DONE = statement(
    "insert into ops.inbox (consumer, event_id, status, attempt, outputs, topic, partition,"
    " \"offset\") values ('payment', :event_id, 0, 0, '', 'payment.requested', 0, 1)"
)


def created(order_id: str) -> OrderCreated:
    item = Item(product_id="P-1", quantity=1, unit_price_minor=500)
    return OrderCreated(order_id=order_id, customer_id="ada", items=[item], total_minor=500,
                        currency="EUR", created_at=NOW)  # fmt: skip


def saga_of(order_id: str, *bodies: Body) -> Saga:
    """The saga after its creation and `bodies`."""
    saga: Saga | None = None
    for body in (created(order_id), *bodies):
        decision = decide(saga, Incoming(str(uuid4()), body, order_id), NOW, policy=DEFAULT_POLICY)
        assert isinstance(decision, Applied), decision
        saga = decision.saga
    assert saga is not None
    return saga


async def keep_saga(db: Database, saga: Saga) -> None:
    await db.execute(
        INSERT_SAGA, order_id=saga.order_id, version=saga.version, state=saga.state.value,
        reason=saga.reason, terminal=saga.settled, body=to_bytes(saga), now=NOW,
    )  # fmt: skip


def charge(order_id: str, *, not_after: datetime = NOW) -> Output:
    """The payment command of an order's saga."""
    body = PaymentRequested(
        order_id=order_id, amount_minor=500, currency="EUR", not_after=not_after
    )
    identity = ids.command_id(order_id, "payment", "forward")
    cause = Cause(order_id, order_id)
    return emit(cause, PAYMENT_REQUESTED, body, event_id=identity, now=NOW, source="test")


def cancel(order_id: str) -> Output:
    """A request to cancel, which needs no saga command."""
    cause = Cause(order_id, order_id)
    body = OrderCancel(order_id=order_id)
    return emit(cause, ORDER_CANCEL, body, event_id=str(uuid4()), now=NOW, source="test")


def dead(output: Output, offset: int, *, role: str = "payment", detail: str = "500") -> DeadLetter:
    """The index entry of the dead letter of a record."""
    record = consumed(output, offset=offset)
    parked = deadletter.dead_letter(
        record,
        topic=f"{output.topic}.dlt",
        role=role,
        error=GatewayUnavailable(f"status {detail}"),
        attempt=4,
        now=NOW - timedelta(minutes=1),
    )
    (event,) = raw_events([consumed(parked, offset=offset)])
    return letter_of(event, NOW - timedelta(seconds=1))


async def index(db: Database, letters: Sequence[DeadLetter]) -> None:
    async with db.transaction() as tx:
        assert await deadletters.record(tx, letters) == len(letters)


async def ask(
    db: Database,
    work: jobs.Work,
    *,
    kind: str = "redrive",
    rate_per_s: int = 5000,
    reason: str = "",
    actor: str = "ada",
) -> str:
    """Queue a job; return its id."""
    job_id = str(uuid4())
    async with db.transaction() as tx:
        total = sum((await matching(tx, work.selection)).values())
        jobs.create(tx, job_id, kind, work, jobs.Request(actor, reason), total=total,
                    rate_per_s=rate_per_s, now=datetime.now(UTC))  # fmt: skip
    return job_id


class FakeOut:
    def __init__(self, outlet: FakeOutlet) -> None:
        self.outlet = outlet
        self.added: list[Output] = []

    async def add(
        self, topic: str, partition: int | None, key: Any, value: Any, headers: Any = ()
    ) -> None:
        self.added.append(Output(topic, key, value, list(headers), partition))

    async def flush(self) -> None:
        self.outlet.sent += self.added


class FakeOutlet:
    """Keeps what is sent, in place of a broker."""

    def __init__(self) -> None:
        self.sent: list[Output] = []

    async def ready(self) -> FakeOut:
        return FakeOut(self)

    async def close(self) -> None:
        """Nothing is open."""


class Party(NamedTuple):
    """Workers that run beside each other."""

    workers: list[RedriveWorker]
    tasks: list[asyncio.Task[None]]


def settings(dsn: str, worker_id: str = "dlq-1", **changes: Any) -> Settings:
    values = {"role": "dlq", "worker_id": worker_id, "incarnation": uuid4().hex[:8],
              "postgres_dsn": dsn, "dlq_poll_ms": 20, "dlq_lease_ttl_s": 1, **changes}  # fmt: skip
    return Settings(**values)


@asynccontextmanager
async def working(
    db: Database, dsn: str, outlet: Any, *names: str, **changes: Any
) -> AsyncIterator[Party]:
    """Run redrive workers until the block ends."""
    clock = ManualClock(datetime.now(UTC))
    workers = [
        RedriveWorker(settings(dsn, name, **changes), db, outlet, clock)
        for name in names or ("dlq-1",)
    ]
    tasks = [asyncio.create_task(one.run()) for one in workers]
    try:
        yield Party(workers, tasks)
    finally:
        for one in workers:
            one.stop()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


async def ended(db: Database, job_id: str, within_s: float = 30) -> jobs.Job:
    """Wait until a job has ended; return it."""
    async with asyncio.timeout(within_s):
        while True:
            job = await jobs.get(db, job_id)
            assert job is not None
            if job.status in jobs.ENDED:
                return job
            await asyncio.sleep(0.02)


async def statuses(db: Database) -> dict[str, int]:
    """How many letters have which status."""
    counted: dict[str, int] = {}
    for one in await deadletters.counts(db):
        counted[one.status] = counted.get(one.status, 0) + one.letters
    return counted
