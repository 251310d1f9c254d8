"""Facts about work beside consumers: drained at a stop, and never gone unnoticed."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from app import work
from app.delivery.exits import Reason
from app.errors import OutageBudgetSpent
from app.work import WorkService

pytestmark = pytest.mark.unit


class Loop:
    """Work that ends as it is told, `takes_s` after it was asked to."""

    def __init__(self, error: Exception | None = None, takes_s: float = 0.0) -> None:
        self._error, self._takes_s = error, takes_s
        self._asked = asyncio.Event()
        self.finished = False

    async def run(self) -> None:
        if self._error is not None:
            raise self._error
        await self._asked.wait()
        await asyncio.sleep(self._takes_s)
        self.finished = True

    def stop(self) -> None:
        self._asked.set()


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Reason, str]]:
    """How the process ended."""
    found: list[tuple[Reason, str]] = []
    monkeypatch.setattr(work, "end_process", lambda reason, why: found.append((reason, why)))
    return found


def service(loop: Loop, drain_grace_s: float = 60.0) -> WorkService:
    app: Any = SimpleNamespace(settings=SimpleNamespace(drain_grace_s=drain_grace_s))
    return WorkService(app, "relay", lambda _: loop)


async def test_what_is_under_way_is_finished(ends: list[tuple[Reason, str]]) -> None:
    """A stop asks for the end and waits for it."""
    loop = Loop(takes_s=0.05)
    one = service(loop)
    await one.on_start()
    await one.on_stop()
    assert loop.finished
    assert ends == []


async def test_it_is_not_waited_for_longer_than_the_grace(ends: list[tuple[Reason, str]]) -> None:
    """Then the process ends, and says whose fault it is."""
    one = service(Loop(takes_s=60.0), drain_grace_s=0.01)
    await one.on_start()
    await one.on_stop()
    assert ends == [(Reason.DRAIN, "relay: what was under way outlived the drain grace")]


@pytest.mark.parametrize(
    ("error", "end"),
    [
        pytest.param(
            OutageBudgetSpent("away"), (Reason.OUTAGE, "outage_budget_spent: away"), id="outage"
        ),
        pytest.param(KeyError("x"), (Reason.FAILURE, "relay: KeyError: 'x'"), id="defect"),
    ],
)
async def test_an_error_ends_the_process(
    ends: list[tuple[Reason, str]], error: Exception, end: tuple[Reason, str]
) -> None:
    """A worker without its work must not look alive."""
    one = service(Loop(error))
    await one.on_start()
    await one.on_stop()
    assert ends == [end]


async def test_a_stop_before_the_start_is_nothing(ends: list[tuple[Reason, str]]) -> None:
    """A worker may end while it comes up."""
    await service(Loop()).on_stop()
    assert ends == []
