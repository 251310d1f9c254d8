"""The payment participant on a real PostgreSQL and the real gateway process."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from app.delivery import Applied, Call, Reply, Retry
from app.errors import GatewayUnavailable, Indefinite, Poison
from app.gateway.breaker import Breaker
from app.gateway.client import GatewayClient, Limits
from app.ids import command_id
from app.messages import PaymentRefund, PaymentRequested, decode
from app.observability import metrics
from app.participants.payment import Payments
from tests.integration.gateway_process import GatewayProcess
from tests.integration.participants import (
    NOW,
    PAST,
    SOON,
    begin,
    call,
    complete,
    event,
    opened,
    order,
    result,
    rows,
    settle,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from app.db.engine import Database
    from app.delivery import Event

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("gateway") / "ledger.jsonl").start()
    yield process
    process.stop()


@pytest.fixture
async def handler(gateway: GatewayProcess) -> AsyncIterator[Payments]:
    breaker = Breaker(failures_max=10**6, open_s=60, monotonic=time.monotonic)
    client = GatewayClient(gateway.url, Limits(20.0, 10.0, 1, 32), breaker)
    yield Payments("test/payment", client)
    gateway.behave(mode="SUCCESS", reply_lost_rate=0, seed=0)
    await client.close()


@pytest.fixture
async def db(database: str) -> AsyncIterator[Database]:
    async with opened(database) as made:
        yield made


def charge(order_id: str, amount: int = 1200, *, late: bool = False) -> Event:
    not_after = PAST if late else SOON
    body = PaymentRequested(
        order_id=order_id, amount_minor=amount, currency="EUR", not_after=not_after
    )
    return event(body, "payment")


def refund(order_id: str, amount: int = 1200) -> Event:
    key = command_id(order_id, "payment", "forward")
    body = PaymentRefund(order_id=order_id, amount_minor=amount, currency="EUR", charge_id=key)
    return event(body, "refund")


def outcomes(settled: list[Any]) -> list[str]:
    return [result(one).outcome for one in settled]


def moved(gateway: GatewayProcess, order_id: str) -> tuple[int, int]:
    """How often money was taken and given back, by the gateway's own books."""
    lines = gateway.lines(order_id=order_id, outcome="ok")
    ops = [line["op"] for line in lines]
    return ops.count("charge"), ops.count("refund")


def status(dsn: str, order_id: str) -> str:
    sql = "select status from payments.payment_attempt where order_id = %s"
    (row,) = rows(dsn, sql, order_id)
    found: str = row[0]
    return found


def charges_counted() -> Counter[str]:
    """Tries of the stable arm so far, by what came of them."""
    return Counter(
        {
            sample.labels["outcome"]: int(sample.value)
            for sample in metrics.CANARY_RESULTS.samples()
            if sample.labels["arm"] == "stable"
        }
    )


async def test_batch_of_every_outcome(
    database: str, db: Database, handler: Payments, gateway: GatewayProcess
) -> None:
    """One batch: charged, declined by test card, too late; every result names its command."""
    paid, declined, late = charge(order()), charge(order(), 1213), charge(order(), late=True)
    before = charges_counted()
    settled = await settle(db, handler, paid, declined, late)
    assert outcomes(settled) == ["OK", "DECLINED", "EXPIRED"]
    assert charges_counted() - before == {"charged": 1, "declined": 1}
    assert [result(one).command_id for one in settled] == [
        one.event_id for one in (paid, declined, late)
    ]
    assert result(settled[0]).payment_id.startswith("pay_")
    assert status(database, paid.body.order_id) == "CHARGED"
    assert moved(gateway, late.body.order_id) == (0, 0)
    assert gateway.lines(order_id=paid.body.order_id)[0]["idempotency_key"] == paid.event_id


async def test_refund_gives_back_once(
    db: Database, handler: Payments, gateway: GatewayProcess
) -> None:
    """A charge is refunded once, however often the refund is commanded."""
    one = order()
    await settle(db, handler, charge(one))
    for _ in range(3):
        assert outcomes(await settle(db, handler, refund(one))) == ["OK"]
    assert moved(gateway, one) == (1, 1)


async def test_refund_before_charge_leaves_a_tombstone(
    db: Database, handler: Payments, gateway: GatewayProcess
) -> None:
    """A refund that comes first needs no call and the late charge is not made."""
    one = order()
    assert outcomes(await settle(db, handler, refund(one))) == ["OK"]
    assert outcomes(await settle(db, handler, charge(one))) == ["CANCELLED"]
    assert gateway.lines(order_id=one) == []


@pytest.mark.parametrize("reverse", [False, True], ids=["charge-first", "refund-first"])
async def test_charge_and_refund_in_one_batch(
    database: str, db: Database, handler: Payments, gateway: GatewayProcess, reverse: bool
) -> None:
    """A charge and its refund in one batch end with no money kept, in either order."""
    one = order()
    events = [charge(one), refund(one)]
    if reverse:
        events.reverse()
    settled = await settle(db, handler, *events)
    assert {result(out).operation: result(out).outcome for out in settled} == {
        "charge": "CANCELLED",
        "refund": "OK",
    }
    taken, given = moved(gateway, one)
    assert taken == given
    assert status(database, one) in ("REFUNDED", "CANCELLED")


async def test_same_order_twice_in_a_batch(
    db: Database, handler: Payments, gateway: GatewayProcess
) -> None:
    """Two charge commands of one order in one batch make one charge and one answer each."""
    one = order()
    settled = await settle(db, handler, charge(one), charge(one))
    assert outcomes(settled) == ["OK", "OK"]
    assert moved(gateway, one) == (1, 0)


async def test_crash_around_the_call_charges_once(
    database: str, db: Database, handler: Payments, gateway: GatewayProcess
) -> None:
    """An INTENT delivered again calls again with the same key: one charge, one recorded."""
    before_call, after_call = charge(order()), charge(order())
    await begin(db, handler, before_call)
    (started,) = await begin(db, handler, after_call)
    assert isinstance(started, Call)
    await call(handler, started.request)
    for command in (before_call, after_call):
        assert status(database, command.body.order_id) == "INTENT"
        assert outcomes(await settle(db, handler, command)) == ["OK"]
        assert moved(gateway, command.body.order_id) == (1, 0)
        assert status(database, command.body.order_id) == "CHARGED"


async def test_intent_is_called_after_its_deadline(
    db: Database, handler: Payments, gateway: GatewayProcess
) -> None:
    """Once started, a charge is settled by calling again, not by letting it expire."""
    one = order()
    await begin(db, handler, charge(one))
    assert outcomes(await settle(db, handler, charge(one, late=True))) == ["OK"]
    assert moved(gateway, one) == (1, 0)


async def test_lost_reply_is_learned_by_the_retry(
    db: Database, handler: Payments, gateway: GatewayProcess
) -> None:
    """Charged but the reply was lost: Retry, then the same key answers with the one charge."""
    command = charge(order())
    gateway.behave(reply_lost_rate=1)
    (lost,) = await settle(db, handler, command)
    assert isinstance(lost, Retry)
    assert isinstance(lost.error, Indefinite)
    gateway.behave(reply_lost_rate=0)
    assert outcomes(await settle(db, handler, command._replace(attempt=1, delivery=1))) == ["OK"]
    assert moved(gateway, command.body.order_id) == (1, 0)


@pytest.mark.parametrize("captured", [False, True])
async def test_refund_of_an_unknown_charge_cancels_its_key_first(
    database: str, db: Database, handler: Payments, gateway: GatewayProcess, captured: bool
) -> None:
    """A refund that meets an INTENT cancels the key, and gives back only what was captured."""
    one = order()
    gateway.behave(mode="SUCCESS" if captured else "ERROR", reply_lost_rate=1)
    (unknown,) = await settle(db, handler, charge(one))
    assert isinstance(unknown, Retry)
    gateway.behave(mode="SUCCESS", reply_lost_rate=0)
    assert outcomes(await settle(db, handler, refund(one))) == ["OK"]
    ops = [line["op"] for line in gateway.lines(order_id=one)]
    assert ops == (["charge", "cancel", "refund"] if captured else ["charge", "cancel"])
    assert status(database, one) == ("REFUNDED" if captured else "CANCELLED")
    assert outcomes(await settle(db, handler, charge(one))) == ["CANCELLED"]
    assert moved(gateway, one) == ((1, 1) if captured else (0, 0))


def interleavings() -> Iterator[list[tuple[str, str]]]:
    """All orders of two workers' steps in which each worker's own steps stay in order."""
    for charges in itertools.combinations(range(6), 3):
        steps = {name: iter(("begin", "call", "complete")) for name in ("charge", "refund")}
        workers = ["charge" if place in charges else "refund" for place in range(6)]
        yield [(worker, next(steps[worker])) for worker in workers]


@pytest.mark.parametrize("lost", [0.0, 1.0], ids=["replies", "charge-reply-lost"])
async def test_every_interleaving_keeps_no_money(
    database: str, db: Database, handler: Payments, gateway: GatewayProcess, lost: float
) -> None:
    """Charge and refund in two workers, in all twenty orders of their steps: net is zero."""
    net = set()
    for sequence in interleavings():
        one = order()
        workers = {
            "charge": Worker(db, handler, charge(one)),
            "refund": Worker(db, handler, refund(one)),
        }
        for name, step in sequence:
            gateway.behave(reply_lost_rate=lost if (name, step) == ("charge", "call") else 0)
            await getattr(workers[name], step)()
        for worker in workers.values():
            await worker.redeliver()
        assert status(database, one) in ("REFUNDED", "CANCELLED"), sequence
        net.add(moved(gateway, one))
    assert net == {(0, 0), (1, 1)}


class Worker:
    """One command in a worker of its own, step by step."""

    def __init__(self, db: Database, handler: Payments, command: Event) -> None:
        self.db, self.handler, self.command = db, handler, command
        self.request: Any = None
        self.reply: Any = None
        self.outcome: Any = None

    async def begin(self) -> None:
        (started,) = await begin(self.db, self.handler, self.command)
        if isinstance(started, Call):
            self.request = started.request
        else:
            self.outcome = started

    async def call(self) -> None:
        if self.request is not None:
            self.reply = await call(self.handler, self.request)

    async def complete(self) -> None:
        if self.request is not None:
            reply = Reply(self.command, self.request, self.reply)
            (self.outcome,) = await complete(self.db, self.handler, [reply])

    async def redeliver(self) -> None:
        if isinstance(self.outcome, Retry):
            (self.outcome,) = await settle(self.db, self.handler, self.command)
        assert isinstance(self.outcome, Applied)


async def test_loser_answers_the_recorded_outcome(
    db: Database, handler: Payments, gateway: GatewayProcess
) -> None:
    """Two workers complete one call: the second repeats what the first recorded."""
    command = charge(order())
    (started,) = await begin(db, handler, command)
    assert isinstance(started, Call)
    reply = Reply(command, started.request, await call(handler, started.request))
    assert await complete(db, handler, [reply]) == await complete(db, handler, [reply])
    assert moved(gateway, command.body.order_id) == (1, 0)


async def test_failed_call_changes_nothing(database: str, db: Database, handler: Payments) -> None:
    """A call without a definite answer leaves the attempt as INTENT for the retry."""
    command = charge(order())
    (started,) = await begin(db, handler, command)
    assert isinstance(started, Call)
    error = GatewayUnavailable("status 500")
    assert await complete(db, handler, [Reply(command, started.request, error)]) == [Retry(error)]
    assert status(database, command.body.order_id) == "INTENT"


async def test_other_amount_is_poison(db: Database, handler: Payments) -> None:
    """A second charge command with another amount for one order is refused as a whole."""
    one = order()
    await settle(db, handler, charge(one, 1200))
    with pytest.raises(Poison, match="bad_command"):
        await begin(db, handler, charge(one, 1300))


async def test_two_hundred_in_one_batch(
    db: Database, handler: Payments, gateway: GatewayProcess
) -> None:
    """A full batch of charges and early refunds takes every charge once."""
    charges = [charge(order()) for _ in range(150)]
    refunds = [refund(one.body.order_id) for one in charges[:50]]
    await settle(db, handler, *refunds)
    settled = await settle(db, handler, *charges)
    assert outcomes(settled) == ["CANCELLED"] * 50 + ["OK"] * 100
    keys = [line["idempotency_key"] for line in gateway.lines(op="charge", outcome="ok")]
    assert [keys.count(one.event_id) for one in charges] == [0] * 50 + [1] * 100


def test_notices_name_error_and_due_time(handler: Payments) -> None:
    """A retried command is announced with its next time, a parked one with its reason."""
    command, error = charge(order()), GatewayUnavailable("status 500")
    outputs = (*handler.retrying(command, error, SOON, NOW), *handler.parked(command, error, NOW))
    said = [decode(one.topic, one.headers, one.key, one.value) for one in outputs]
    assert [one.body.outcome for one in said] == ["RETRYING", "PARKED"]
    assert [one.body.due_at for one in said] == [SOON, None]
    assert {one.body.reason for one in said} == {"gateway_unavailable"}
    assert {one.body.command_id for one in said} == {command.event_id}
    assert len({one.event_id for one in said}) == 2
