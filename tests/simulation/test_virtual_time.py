"""The loop of the simulation: virtual time, processes that are killed, suspended and resumed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from chaos.simulation.loop import Livelock, VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

pytestmark = pytest.mark.unit

Seen = list[tuple[str, float]]


def told(seed: int, story: Callable[[VirtualLoop, Seen], Coroutine[Any, Any, None]]) -> Seen:
    """Run a story; return what it saw."""
    loop, seen = VirtualLoop(seed), []
    try:
        loop.run(story(loop, seen))
    finally:
        loop.close()
    assert loop.problems == []
    return seen


async def count(loop: VirtualLoop, seen: Seen, name: str) -> None:
    for _ in range(4):
        await asyncio.sleep(1)
        seen.append((name, loop.time()))


def test_time_passes_only_when_nothing_can_run() -> None:
    """An hour costs nothing and is exact; timeouts count it."""

    async def story(loop: VirtualLoop, seen: Seen) -> None:
        await asyncio.sleep(3600)
        seen.append(("slept", loop.time()))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.sleep(50)
        seen.append(("gave up", loop.time()))

    assert told(1, story) == [("slept", 3600.0), ("gave up", 3605.0)]


def test_a_killed_process_is_never_resumed() -> None:
    """Neither its tasks nor their `finally` blocks run again while the story goes on."""

    async def victim(seen: Seen) -> None:
        try:
            await asyncio.sleep(10)
        finally:
            seen.append(("cleaned up", 0.0))

    async def story(loop: VirtualLoop, seen: Seen) -> None:
        process = loop.process("victim")
        loop.spawn(process, victim(seen))
        loop.spawn(process, count(loop, seen, "victim"))
        await asyncio.sleep(2.5)
        loop.kill(process)
        await asyncio.sleep(60)
        assert seen == [("victim", 1.0), ("victim", 2.0)]

    told(1, story)


def test_a_suspended_process_goes_on_where_it_stood() -> None:
    """What became due meanwhile happens when it is resumed."""

    async def story(loop: VirtualLoop, seen: Seen) -> None:
        process = loop.process("stopped")
        loop.spawn(process, count(loop, seen, "stopped"))
        await asyncio.sleep(1.5)
        loop.freeze(process)
        await asyncio.sleep(10)
        assert len(seen) == 1
        loop.thaw(process)
        await asyncio.sleep(10)

    times = [at for _, at in told(1, story)]
    assert times == [1.0, 11.5, 12.5, 13.5]


def test_the_seed_decides_who_runs_first() -> None:
    """Processes that are ready together run in an order of the seed, which repeats it."""

    async def story(loop: VirtualLoop, seen: Seen) -> None:
        for name in "abc":
            loop.spawn(loop.process(name), count(loop, seen, name))
        await asyncio.sleep(5)

    orders = {seed: tuple(name for name, _ in told(seed, story)) for seed in range(10)}
    assert len(set(orders.values())) > 3
    assert orders[3] == tuple(name for name, _ in told(3, story))


def test_within_a_process_the_order_is_that_of_asyncio() -> None:
    """Callbacks run in the order in which they were scheduled, whatever the seed."""

    async def story(loop: VirtualLoop, seen: Seen) -> None:
        for number in range(20):
            loop.call_soon(seen.append, ("soon", float(number)))
        await asyncio.sleep(1)

    for seed in range(5):
        assert [at for _, at in told(seed, story)] == [float(number) for number in range(20)]


def test_an_error_in_a_callback_is_kept() -> None:
    """Nothing that goes wrong outside a task is lost."""

    async def story(loop: VirtualLoop) -> None:
        loop.call_soon(int, "no number")
        await asyncio.sleep(1)

    loop = VirtualLoop(1)
    loop.run(story(loop))
    loop.close()
    assert "no number" in loop.problems[0]


def test_a_story_that_cannot_end_is_reported() -> None:
    """When nothing will ever happen again, waiting is no use."""

    async def story() -> None:
        await asyncio.get_running_loop().create_future()

    loop = VirtualLoop(1)
    with pytest.raises(Livelock):
        loop.run(story())
    loop.close()
