"""A fetch that breaks off on a closed connection ends the worker: alive and idle is worse."""

from __future__ import annotations

from typing import Any

import pytest

from app.delivery import consumer_thread
from app.delivery.consumer_thread import ConsumerThread, driver
from app.delivery.exits import Reason

pytestmark = pytest.mark.unit


class Ended(Exception):
    """The process would have ended."""


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[Reason]:
    """Why the process would have ended."""
    found: list[Reason] = []

    def end(reason: Reason, why: str) -> None:
        found.append(reason)
        raise Ended(why)

    monkeypatch.setattr(consumer_thread, "end_process", end)
    return found


async def fetch(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """One fetch in which the driver's raises `error`."""

    async def broken(*_: Any) -> None:
        raise error

    monkeypatch.setattr(driver.AIOKafkaConsumerThread, "_fetch_records", broken)
    thread: Any = ConsumerThread.__new__(ConsumerThread)
    await thread._fetch_records(None, set())


async def test_a_write_on_a_closed_connection_ends_the_worker(
    monkeypatch: pytest.MonkeyPatch, ends: list[Reason]
) -> None:
    """The words are uvloop's, seen when the broker was killed under load."""
    words = "unable to perform operation on <TCPTransport closed=True>; the handler is closed"
    with pytest.raises(Ended, match="a fetch broke off"):
        await fetch(monkeypatch, RuntimeError(words))
    assert ends == [Reason.OUTAGE]


async def test_any_other_error_is_raised_as_it_was(
    monkeypatch: pytest.MonkeyPatch, ends: list[Reason]
) -> None:
    """Whoever else expects an error gets it."""
    with pytest.raises(RuntimeError, match="other"):
        await fetch(monkeypatch, RuntimeError("other"))
    assert ends == []
