"""One proxy process and one echo server a module; each test has a proxy of its own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from tests.proxy.proxy_kit import Door, ProxyProcess, Server, echo

_numbers = count(1)


@pytest.fixture(scope="module")
def process() -> Iterator[ProxyProcess]:
    """One proxy process for all tests; each makes proxies with names of its own."""
    proxy = ProxyProcess("--seed", "1")
    yield proxy
    assert proxy.stop() == 0


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """An echo server."""
    one = Server(echo)
    yield one
    one.close()


@pytest.fixture
def door(process: ProxyProcess, server: Server) -> Door:
    """A proxy of this test before the echo server."""
    return Door(process, f"door-{next(_numbers)}", server.address)
