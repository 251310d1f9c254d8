"""The gateway in memory keeps the same contracts as the real process: one set of assertions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import pytest

from app.errors import GatewayTimeout, GatewayUnavailable, Indefinite
from app.gateway.breaker import Breaker
from app.gateway.client import GatewayClient, Limits
from app.gateway.replies import Outcome
from chaos.gateway_sim.provider import Behaviour
from chaos.simulation.environment import installed
from chaos.simulation.plan import Plan
from chaos.simulation.world import World
from tests.integration.gateway_process import GatewayProcess

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

LIMITS = Limits(deadline_s=20.0, attempt_timeout_s=10.0, attempts_max=2, concurrency_max=16)
IMPATIENT = LIMITS._replace(deadline_s=2.0, attempt_timeout_s=0.4)
CALM = Plan(seed=1, orders=1, faults=(), until_s=1.0)


class Kit(Protocol):
    """What a contract needs beside the client."""

    def behave(self, **changes: Any) -> None:
        """Change the gateway's behaviour."""

    def lines(self, **having: Any) -> list[dict[str, Any]]:
        """Lines of the gateway's ledger with these values."""


CONTRACTS: list[Callable[[GatewayClient, Kit], Awaitable[None]]] = []
OF_TIMEOUTS: list[Callable[[GatewayClient, Kit], Awaitable[None]]] = []


def contract(function: Callable[[GatewayClient, Kit], Awaitable[None]]) -> Any:
    """Add a contract."""
    CONTRACTS.append(function)
    return function


def contract_of_timeouts(function: Callable[[GatewayClient, Kit], Awaitable[None]]) -> Any:
    """Add a contract whose client is impatient."""
    OF_TIMEOUTS.append(function)
    return contract(function)


def limits_of(function: Callable[[GatewayClient, Kit], Awaitable[None]]) -> Limits:
    """Those of the client that a contract gets."""
    return IMPATIENT if function in OF_TIMEOUTS else LIMITS


async def charge(client: GatewayClient, key: str, amount: int = 1200) -> Any:
    return await client.charge(key, order_id=f"order-{key}", amount_minor=amount, currency="EUR")


async def charge_until_known(client: GatewayClient, key: str) -> Outcome:
    """The outcome, however often it takes to learn it."""
    while True:
        try:
            return Outcome((await charge(client, key)).outcome)
        except Indefinite:
            continue  # still in flight (409), or a busy machine


@contract
async def charges_refunds_and_cancels(client: GatewayClient, kit: Kit) -> None:
    """Each operation once, and what a key means after it."""
    assert (await charge(client, "k")).outcome is Outcome.OK
    assert (await charge(client, "k")).outcome is Outcome.OK
    assert (await client.refund("r", order_id="order-k", charge_key="k")).outcome is Outcome.OK
    assert (await client.cancel("other", order_id="o")).outcome is Outcome.OK
    assert (await client.cancel("k", order_id="o")).outcome is Outcome.ALREADY_CAPTURED
    assert (await charge(client, "other")).outcome is Outcome.KEY_CANCELLED
    never = await client.refund("r2", order_id="o", charge_key="never")
    assert never.outcome is Outcome.REFUSED
    assert (await charge(client, "card", 1213)).outcome is Outcome.DECLINED
    assert [line["outcome"] for line in kit.lines(op="charge")] == [
        "ok",
        "replayed",
        "cancelled",
        "declined",
    ]


@contract
async def tries_an_error_again_under_the_same_key(client: GatewayClient, kit: Kit) -> None:
    """As often as allowed; afterwards the key is charged once."""
    kit.behave(mode="ERROR")
    with pytest.raises(GatewayUnavailable):
        await charge(client, "k")
    assert [line["attempt"] for line in kit.lines(outcome="error")] == [1, 2]
    kit.behave(mode="SUCCESS")
    assert (await charge(client, "k")).outcome is Outcome.OK
    assert len(kit.lines(outcome="ok")) == 1


@contract_of_timeouts
async def answers_nobody_while_it_is_silent(client: GatewayClient, kit: Kit) -> None:
    """The client gives up in time, nothing is charged, and later the key is free."""
    kit.behave(mode="TIMEOUT")
    with pytest.raises(Indefinite):
        await charge(client, "k")
    kit.behave(mode="SUCCESS")
    assert await charge_until_known(client, "k") is Outcome.OK
    assert len(kit.lines(outcome="ok")) == 1


@contract
async def loses_replies_after_the_effect(client: GatewayClient, kit: Kit) -> None:
    """Charged but not answered: the retry learns of the one charge."""
    kit.behave(reply_lost_rate=0.5, seed=1)
    for number in range(30):
        assert (await charge(client, f"k{number}")).outcome is Outcome.OK
    assert len(kit.lines(replied=False)) > 3
    assert len(kit.lines(outcome="ok")) == 30


@contract_of_timeouts
async def charges_a_client_that_has_left(client: GatewayClient, kit: Kit) -> None:
    """A charge slower than the client's patience happens all the same."""
    kit.behave(latency_ms_min=2000, latency_ms_max=2000)
    with pytest.raises((GatewayTimeout, GatewayUnavailable)):
        await charge(client, "k")
    kit.behave(latency_ms_min=0, latency_ms_max=0)
    assert await charge_until_known(client, "k") is Outcome.OK
    assert len(kit.lines(outcome="ok")) == 1
    assert len({line["idempotency_key"] for line in kit.lines()}) == 1


class MemoryKit:
    """The kit of the gateway in memory."""

    def __init__(self, world: World) -> None:
        self._world = world

    def behave(self, **changes: Any) -> None:
        known = msgspec.structs.asdict(self._world.gateway.provider.behaviour)
        self._world.gateway.behave(msgspec.convert({**known, **changes}, Behaviour))

    def lines(self, **having: Any) -> list[dict[str, Any]]:
        entries = [msgspec.structs.asdict(one) for one in self._world.gateway.ledger.entries]
        return [one for one in entries if having.items() <= one.items()]


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path / "ledger.jsonl").start()
    yield process
    process.stop()


_NAMES = [one.__name__ for one in CONTRACTS]  # type: ignore[attr-defined]


@pytest.mark.unit
@pytest.mark.parametrize("function", CONTRACTS, ids=_NAMES)
def test_the_gateway_in_memory(function: Callable[..., Awaitable[None]]) -> None:
    """The contract holds on virtual time."""
    world = World(CALM)
    with installed(world):
        breaker = Breaker(failures_max=1000, open_s=60, monotonic=world.loop.time)
        client = GatewayClient("http://gateway", limits_of(function), breaker)
        try:
            world.loop.run(_main(function(client, MemoryKit(world))))
        finally:
            world.loop.close()
    assert world.loop.problems == []


async def _main(contract: Awaitable[None]) -> None:
    await contract


@pytest.mark.integration
@pytest.mark.parametrize("function", CONTRACTS, ids=_NAMES)
async def test_the_gateway_process(
    function: Callable[..., Awaitable[None]], gateway: GatewayProcess
) -> None:
    """The same assertions hold on the real process."""
    breaker = Breaker(failures_max=1000, open_s=60, monotonic=time.monotonic)
    client = GatewayClient(gateway.url, limits_of(function), breaker)
    try:
        await function(client, gateway)
    finally:
        await client.close()
