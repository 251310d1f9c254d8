"""How the loops without partitions wait for PostgreSQL and the broker."""

from __future__ import annotations

import asyncio

import pytest

from app import outages
from app.errors import DatabaseOutage, OutageBudgetSpent
from app.outages import Outages, Stopped

pytestmark = pytest.mark.unit


async def _fails() -> None:
    raise DatabaseOutage("away")


async def test_an_outage_is_outlasted() -> None:
    """What fails twice is tried a third time, and its result returned."""
    answers = iter([DatabaseOutage("away"), DatabaseOutage("away"), 7])

    async def attempt() -> int:
        answer = next(answers)
        if isinstance(answer, DatabaseOutage):
            raise answer
        return answer

    assert await Outages("relay", 60.0).outlast("look", attempt) == 7


async def test_a_long_outage_spends_the_budget() -> None:
    """The error names the loop, what it did and what kept it from doing so."""
    with pytest.raises(OutageBudgetSpent, match=r"relay look: .*away"):
        await Outages("relay", 0.0).outlast("look", _fails)


async def test_stopping_does_not_wait_for_the_end_of_an_outage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However long the backoff is, `stop` ends it at once; so it does with a sleep."""
    monkeypatch.setattr(outages, "BACKOFF_FIRST_S", 60.0)
    monkeypatch.setattr(outages, "BACKOFF_MAX_S", 60.0)
    patient = Outages("relay", 600.0)
    waiting = asyncio.create_task(patient.outlast("look", _fails))
    sleeping = asyncio.create_task(patient.sleep(60.0))
    await asyncio.sleep(0)
    patient.stop()
    async with asyncio.timeout(5):
        with pytest.raises(Stopped):
            await waiting
        assert await sleeping is False


async def test_an_error_that_no_retry_heals_is_raised() -> None:
    """It is not an outage."""

    async def attempt() -> None:
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        await Outages("relay", 60.0).outlast("look", attempt)
