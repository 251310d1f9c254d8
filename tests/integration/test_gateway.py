"""Our gateway client against the real simulator process, in every mode and through its death."""

from __future__ import annotations

import asyncio
import resource
import time
from typing import TYPE_CHECKING
from uuid import uuid4

import aiohttp
import pytest

from app.errors import BreakerOpen, GatewayTimeout, GatewayUnavailable, Indefinite
from app.gateway.breaker import Breaker, State
from app.gateway.client import GatewayClient, Limits
from app.gateway.replies import GatewayReply, Outcome, UnexpectedReply
from tests.integration.gateway_process import GatewayProcess
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

LIMITS = Limits(deadline_s=20.0, attempt_timeout_s=10.0, attempts_max=2, concurrency_max=16)
IMPATIENT = LIMITS._replace(deadline_s=2.0, attempt_timeout_s=0.4)
"""Only where a time-out is what is tested."""


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path / "ledger.jsonl").start()
    yield process
    process.stop()


def client_of(gateway: GatewayProcess, limits: Limits) -> GatewayClient:
    """A client whose breaker does not open."""
    breaker = Breaker(failures_max=1000, open_s=60, monotonic=time.monotonic)
    return GatewayClient(gateway.url, limits, breaker)


@pytest.fixture
async def client(gateway: GatewayProcess) -> AsyncIterator[GatewayClient]:
    made = client_of(gateway, LIMITS)
    yield made
    await made.close()


@pytest.fixture
async def impatient(gateway: GatewayProcess) -> AsyncIterator[GatewayClient]:
    made = client_of(gateway, IMPATIENT)
    yield made
    await made.close()


async def charge(client: GatewayClient, key: str, amount: int = 1200) -> GatewayReply:
    return await client.charge(key, order_id=f"order-{key}", amount_minor=amount, currency="EUR")


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait until `condition` holds; calls under way go on meanwhile."""

    async def look() -> bool:
        return bool(condition())

    await eventually(look, timeout_s=20, what=what, every_s=0.005)


async def until_lines(gateway: GatewayProcess, count: int = 1, *, outcome: str) -> None:
    """Wait until the ledger has `count` lines of an outcome."""
    await until(lambda: len(gateway.lines(outcome=outcome)) >= count, f"{count} lines: {outcome}")


async def arrived(gateway: GatewayProcess, key: str) -> None:
    """Wait until the gateway knows of a charge with `key`, decided or not."""
    async with aiohttp.ClientSession() as session:

        async def look() -> bool:
            async with session.get(f"{gateway.url}/v1/charges/{key}") as response:
                return response.status == 200

        await eventually(look, timeout_s=20, what=f"charge {key} at the gateway", every_s=0.005)


async def test_charge_refund_and_cancel(gateway: GatewayProcess, client: GatewayClient) -> None:
    """The happy path of all three operations, each with one ledger line."""
    charged = await charge(client, "k")
    assert charged.outcome is Outcome.OK
    assert charged.payment_id
    refunded = await client.refund("r", order_id="order-k", charge_key="k")
    assert refunded.outcome is Outcome.OK
    assert (await client.cancel("other", order_id="o")).outcome is Outcome.OK
    assert (await client.cancel("k", order_id="o")).outcome is Outcome.ALREADY_CAPTURED
    assert (await charge(client, "other")).outcome is Outcome.KEY_CANCELLED
    missing = await client.refund("r2", order_id="o", charge_key="never")
    assert missing.outcome is Outcome.REFUSED
    outcomes = [(line["op"], line["outcome"], line["replied"]) for line in gateway.lines()]
    assert outcomes == [
        ("charge", "ok", True),
        ("refund", "ok", True),
        ("cancel", "ok", True),
        ("cancel", "already_captured", True),
        ("charge", "cancelled", True),
        ("refund", "refused", True),
    ]


async def test_keys_are_quoted_in_paths(gateway: GatewayProcess, client: GatewayClient) -> None:
    """A key with reserved characters is cancelled as it is, not as a path."""
    key = "a/b?c=d e%2F"
    await client.cancel(key, order_id="o")
    assert gateway.lines(op="cancel")[0]["charge_key"] == key
    assert (await charge(client, key)).outcome is Outcome.KEY_CANCELLED


async def test_decline_is_definite_and_never_trips(gateway: GatewayProcess) -> None:
    """Any number of declines leaves a breaker that opens at one failure closed."""
    breaker = Breaker(failures_max=1, open_s=60, monotonic=time.monotonic)
    client = GatewayClient(gateway.url, LIMITS, breaker)
    assert (await charge(client, "card", 1213)).outcome is Outcome.DECLINED
    gateway.behave(mode="DECLINE")
    replies = await asyncio.gather(*(charge(client, f"k{n}") for n in range(50)))
    assert {reply.outcome for reply in replies} == {Outcome.DECLINED}
    assert breaker.state is State.CLOSED
    assert len(gateway.lines(outcome="declined")) == 51
    await client.close()


async def test_error_mode_is_retried_with_the_same_key(
    gateway: GatewayProcess, client: GatewayClient
) -> None:
    """5xx is tried as often as allowed, then raised; afterwards the same key is charged once."""
    gateway.behave(mode="ERROR")
    with pytest.raises(GatewayUnavailable):
        await charge(client, "k")
    assert [line["attempt"] for line in gateway.lines(outcome="error")] == [1, 2]
    gateway.behave(mode="SUCCESS")
    assert (await charge(client, "k")).outcome is Outcome.OK
    assert len(gateway.lines(idempotency_key="k", outcome="ok")) == 1


async def test_timeout_mode_ends_within_the_deadline(
    gateway: GatewayProcess, client: GatewayClient, impatient: GatewayClient
) -> None:
    """A silent gateway costs the attempts' time at most, charges nothing, and recovers."""
    gateway.behave(mode="TIMEOUT")
    started = time.monotonic()
    with pytest.raises(Indefinite):
        await charge(impatient, "k")
    assert time.monotonic() - started >= IMPATIENT.attempt_timeout_s
    assert not gateway.lines(outcome="timeout"), "the gateway was the first to give up"
    gateway.behave(mode="SUCCESS")
    await until_lines(gateway, outcome="timeout")
    assert (await charge(client, "k")).outcome is Outcome.OK
    assert len(gateway.lines(outcome="ok")) == 1


async def test_deadline_bounds_all_attempts(gateway: GatewayProcess) -> None:
    """However many attempts are allowed, the call ends at its deadline."""
    breaker = Breaker(failures_max=1000, open_s=60, monotonic=time.monotonic)
    client = GatewayClient(
        gateway.url, IMPATIENT._replace(attempts_max=10**6, deadline_s=0.7), breaker
    )
    gateway.behave(latency_ms_min=60_000, latency_ms_max=60_000)
    with pytest.raises((GatewayTimeout, UnexpectedReply)):
        await charge(client, "k")
    assert not gateway.lines(outcome="ok"), "the gateway has answered first"
    await client.close()


async def test_lost_reply_is_charged_once(gateway: GatewayProcess, client: GatewayClient) -> None:
    """Charged but the reply was lost: the retry with the same key learns of the one charge."""
    gateway.behave(reply_lost_rate=0.5, seed=1)
    keys = [f"k{n}" for n in range(40)]
    results = await asyncio.gather(*(charge(client, key) for key in keys), return_exceptions=True)
    lost = gateway.lines(replied=False)
    assert len(lost) > 5
    for key, result in zip(keys, results, strict=True):
        if isinstance(result, BaseException):
            assert isinstance(result, Indefinite)
            continue
        assert result.outcome is Outcome.OK
        assert len(gateway.lines(idempotency_key=key, outcome="ok")) == 1
    assert not any(isinstance(result, BaseException) for result in results)
    assert len(gateway.lines(outcome="ok")) == len(keys)


async def test_client_that_left_is_charged_all_the_same(
    gateway: GatewayProcess, client: GatewayClient, impatient: GatewayClient
) -> None:
    """A charge slower than the client's patience happens; in flight it answers 409."""
    gateway.behave(latency_ms_min=2000, latency_ms_max=2000)
    with pytest.raises(Indefinite):
        await charge(impatient, "k")
    assert gateway.lines(outcome="in_flight")
    gateway.behave(latency_ms_min=0, latency_ms_max=0)
    await until_lines(gateway, outcome="ok")
    assert (await charge(client, "k")).outcome is Outcome.OK
    assert gateway.lines()[-1]["outcome"] == "replayed"


async def test_cancel_beats_a_charge_under_way(
    gateway: GatewayProcess, client: GatewayClient
) -> None:
    """A key cancelled while its charge is in flight is not captured."""
    gateway.behave(latency_ms_min=3000, latency_ms_max=3000)
    under_way = asyncio.create_task(charge(client, "k"))
    await arrived(gateway, "k")
    gateway.behave(latency_ms_min=0, latency_ms_max=0)
    assert (await client.cancel("k", order_id="o")).outcome is Outcome.OK
    assert (await under_way).outcome is Outcome.KEY_CANCELLED
    assert not gateway.lines(op="charge", outcome="ok")


async def test_same_key_other_amount_is_no_decline(client: GatewayClient) -> None:
    """Misuse of a key is indefinite (it may have been charged before) and not retried."""
    await charge(client, "k", 1200)
    with pytest.raises(UnexpectedReply, match="422"):
        await charge(client, "k", 1300)


async def test_breaker_opens_and_one_probe_closes_it(gateway: GatewayProcess) -> None:
    """An open breaker sends nothing; after its time one call among many probes and closes it."""
    now_s = 0.0
    breaker = Breaker(failures_max=3, open_s=5, monotonic=lambda: now_s)
    client = GatewayClient(gateway.url, LIMITS._replace(attempts_max=1), breaker)
    gateway.behave(mode="ERROR")
    for n in range(3):
        with pytest.raises(GatewayUnavailable):
            await charge(client, f"k{n}")
    with pytest.raises(BreakerOpen):
        await charge(client, "refused")
    assert not gateway.lines(idempotency_key="refused")
    gateway.behave(mode="SUCCESS", latency_ms_min=50, latency_ms_max=50)
    assert breaker.retry_after_s() == 5
    now_s = 5.0
    calls = [charge(client, f"p{n}") for n in range(20)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(result, GatewayReply) for result in results) == 1
    assert sum(isinstance(result, BreakerOpen) for result in results) == 19
    assert breaker.state is State.CLOSED
    await client.close()


async def test_cancelled_probe_frees_its_place(gateway: GatewayProcess) -> None:
    """A probe whose caller is cancelled leaves the breaker able to probe again."""
    breaker = Breaker(failures_max=1, open_s=0.0, monotonic=time.monotonic)
    patient = LIMITS._replace(attempts_max=1, attempt_timeout_s=10, deadline_s=10)
    client = GatewayClient(gateway.url, patient, breaker)
    gateway.behave(mode="ERROR")
    with pytest.raises(GatewayUnavailable):
        await charge(client, "k0")
    gateway.behave(mode="TIMEOUT")
    probe = asyncio.create_task(charge(client, "k1"))
    await arrived(gateway, "k1")
    assert breaker.state is State.HALF_OPEN
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    gateway.behave(mode="SUCCESS")
    assert (await charge(client, "k2")).outcome is Outcome.OK
    assert breaker.state is State.CLOSED
    await client.close()


async def test_absent_gateway_is_indefinite(gateway: GatewayProcess, client: GatewayClient) -> None:
    """A refused connection is an indefinite error, not a decline."""
    gateway.stop()
    with pytest.raises(GatewayUnavailable):
        await charge(client, "k")


@pytest.mark.faults
async def test_kill_in_the_middle_of_charges(
    gateway: GatewayProcess, client: GatewayClient
) -> None:
    """kill -9 between charge and reply, three times: every key ends charged exactly once."""
    keys = [str(uuid4()) for _ in range(120)]
    settled: set[str] = set()
    for _ in range(3):
        gateway.behave(latency_ms_min=0, latency_ms_max=80)
        calls = {
            key: asyncio.create_task(charge(client, key)) for key in keys if key not in settled
        }
        await until_lines(gateway, min(len(settled) + 10, len(keys)), outcome="ok")
        gateway.kill()
        results = await asyncio.gather(*calls.values(), return_exceptions=True)
        assert any(isinstance(result, Indefinite) for result in results)
        settled |= {
            key
            for key, result in zip(calls, results, strict=True)
            if isinstance(result, GatewayReply)
        }
        gateway.start()
    for key in keys:
        assert (await charge(client, key)).outcome is Outcome.OK
    charged = [line["idempotency_key"] for line in gateway.lines(op="charge", outcome="ok")]
    assert sorted(charged) == sorted(keys)


async def test_mode_is_read_and_changed_in_part(
    gateway: GatewayProcess, client: GatewayClient
) -> None:
    """PUT changes the named settings only; wrong ones are refused and change nothing."""
    before = gateway.behave(decline_rate=0.25)
    assert before["mode"] == "SUCCESS"
    after = gateway.behave(mode="ERROR")
    assert after == before | {"mode": "ERROR"}
    async with aiohttp.ClientSession(gateway.url) as session:
        for wrong, status in (
            ({"mode": "error"}, 400),
            ({"unknown": 1}, 400),
            ({"decline_rate": 2}, 422),
            ([], 400),
        ):
            async with session.put("/v1/mode", json=wrong) as response:
                assert response.status == status
        async with session.get("/v1/mode") as response:
            assert await response.json() == after


@pytest.mark.parametrize(
    ("method", "path", "key", "body", "status"),
    [
        ("POST", "/v1/charges", "", '{"order_id":"o","amount_minor":1,"currency":"EUR"}', 400),
        (
            "POST",
            "/v1/charges",
            "k" * 201,
            '{"order_id":"o","amount_minor":1,"currency":"EUR"}',
            400,
        ),
        ("POST", "/v1/charges", "k", '{"order_id":"o","amount_minor":0,"currency":"EUR"}', 400),
        ("POST", "/v1/charges", "k", '{"order_id":"o","amount_minor":1,"currency":"eur"}', 400),
        ("POST", "/v1/charges", "k", "not json", 400),
        ("POST", "/v1/charges", "k", "x" * 20_000, 413),
        ("POST", "/v1/refunds", "k", "{}", 400),
        ("GET", "/v1/charges/unknown", "", "", 404),
        ("DELETE", "/v1/charges", "k", "", 404),
        ("GET", "/healthz", "", "", 200),
    ],
)
async def test_bad_requests_leave_no_line(
    gateway: GatewayProcess, method: str, path: str, key: str, body: str, status: int
) -> None:
    """A request that is not understood is answered 4xx and is in no ledger."""
    headers = {"Idempotency-Key": key} if key else {}
    async with (
        aiohttp.ClientSession(gateway.url) as session,
        session.request(method, path, data=body or None, headers=headers) as response,
    ):
        assert response.status == status
        assert await response.json()
    assert gateway.lines() == []


async def test_full_disk_stops_the_gateway(gateway: GatewayProcess, client: GatewayClient) -> None:
    """A ledger that cannot be written ends the process instead of trading without books."""
    await charge(client, "before")
    process = gateway.process
    assert process is not None
    size = gateway.ledger.stat().st_size
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, size))
    with pytest.raises(GatewayUnavailable):
        await charge(client, "k")
    assert process.wait(10) == 74
    assert not gateway.lines(idempotency_key="k")
