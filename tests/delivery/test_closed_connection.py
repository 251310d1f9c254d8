"""A request on a connection that has just been closed fails as one on any that broke does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvloop
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.admin import ApiVersionRequest

from app.delivery import aiokafka_seams as seams

pytestmark = pytest.mark.unit


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seam, for this test alone."""
    monkeypatch.setattr(AIOKafkaConnection, "send", AIOKafkaConnection.send)
    seams.fit_uvloop()


@pytest.fixture(autouse=True)
def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server need not say which versions it speaks."""

    async def look_up(_: AIOKafkaConnection) -> None:
        pass

    monkeypatch.setattr(AIOKafkaConnection, "_do_version_lookup", look_up)


async def send_when_closed() -> AIOKafkaConnection:
    """Send on a connection whose transport was closed before its reader has noticed."""

    async def silent(_reader: Any, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = AIOKafkaConnection("127.0.0.1", port)
    try:
        await connection.connect()
        connection._writer.transport.abort()
        await asyncio.sleep(0)
        connection.send(ApiVersionRequest())
    finally:
        server.close()
    return connection


def test_stock_aiokafka_raises_what_nobody_expects() -> None:
    """The seam is needed as long as this holds."""
    with uvloop_runner() as runner, pytest.raises(RuntimeError, match="closed") as raised:
        runner.run(send_when_closed())
    assert not isinstance(raised.value, KafkaConnectionError)


def test_it_is_a_connection_that_broke(fitted: None) -> None:
    """Which every caller knows how to repeat."""
    with uvloop_runner() as runner, pytest.raises(KafkaConnectionError, match="broke off"):
        runner.run(send_when_closed())


def test_errors_of_the_client_itself_stay_what_they_are(fitted: None) -> None:
    """An unconnected connection says so in its own words."""
    with uvloop_runner() as runner, pytest.raises(KafkaConnectionError, match="No connection"):
        runner.run(unconnected())


async def unconnected() -> None:
    AIOKafkaConnection("127.0.0.1", 1).send(ApiVersionRequest())


def uvloop_runner() -> asyncio.Runner:
    """The loop that workers run on."""
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)
