"""Orders that keep coming while something breaks, from a thread of their own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import Self

from chaos.workload.command import ledger_path
from chaos.workload.generator import Load, read_catalogue
from chaos.workload.ledger import LedgerFile, Line
from chaos.workload.mix import DEFAULT_MIX, Order, plan
from chaos.workload.target import Target

LONGEST_S = 900
IN_FLIGHT_MAX = 5_000
REQUEST_TIMEOUT_S = 20.0
LOOK_S = 0.05


class TrafficFailed(Exception):
    """The orders stopped, or do not come through; the text says why."""


class Traffic:
    """A constant rate of orders of every class, from entering the context to leaving it.

    Leaving waits for the last answers. The requests stand in `ledger`, where the auditor looks.
    """

    def __init__(self, target: Target, *, rate_per_s: float, seed: int) -> None:
        self.ledger: Path = ledger_path(target, token_hex(5))
        self._url = target.url
        self._rate_per_s, self._seed = rate_per_s, seed
        self._enough = threading.Event()
        self._load: Load | None = None
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Send no more, wait for the answers; may be called twice. Raises TrafficFailed."""
        self._enough.set()
        self._thread.join(REQUEST_TIMEOUT_S * 3)
        if self._thread.is_alive():
            raise TrafficFailed("requests are still under way long after the last was sent")
        if self._failure is not None:
            raise TrafficFailed(f"the load ended: {self._failure!r}") from self._failure

    @property
    def sent(self) -> int:
        """How many orders were sent so far."""
        return self._load.sent if self._load is not None else 0

    @property
    def creates(self) -> list[Line]:
        """Requests for orders that were answered or given up, in the order of their ends."""
        lines = list(self._load.lines) if self._load is not None else []
        return [line for line in lines if line.kind == "create"]

    @property
    def accepted(self) -> int:
        """How many orders were accepted so far."""
        return sum(line.outcome == "ok" for line in self.creates)

    def flow(self, orders: int, *, timeout_s: float = 120.0) -> None:
        """Return when so many more orders were accepted. Raises TrafficFailed."""
        wanted = self.accepted + orders
        deadline = time.monotonic() + timeout_s
        while self.accepted < wanted:
            if not self._thread.is_alive():
                raise TrafficFailed(f"the load ended: {self._failure!r}")
            if time.monotonic() > deadline:
                raise TrafficFailed(f"{orders} more orders were not accepted in {timeout_s:g} s")
            time.sleep(LOOK_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._send())
        except Exception as error:
            self._failure = error

    async def _send(self) -> None:
        count = round(LONGEST_S * self._rate_per_s)
        catalogue = await read_catalogue(self._url)
        orders = plan(count, self._rate_per_s, self._seed, DEFAULT_MIX, catalogue)
        with LedgerFile(self.ledger) as file:
            self._load = Load(
                self._url,
                file,
                run=token_hex(5),
                in_flight_max=IN_FLIGHT_MAX,
                timeout_s=REQUEST_TIMEOUT_S,
            )
            await self._load.run(self._until_enough(orders))

    def _until_enough(self, orders: list[Order]) -> Iterator[Order]:
        for order in orders:
            if self._enough.is_set():
                return
            yield order
