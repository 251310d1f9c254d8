"""Orders that keep coming while a test breaks something, and what became of each request."""

from __future__ import annotations

import asyncio
import threading
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
from tests.waiting import wait_until

LONGEST_S = 300
IN_FLIGHT_MAX = 5_000
REQUEST_TIMEOUT_S = 20.0


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
        """Send no more, wait for the answers; may be called twice."""
        self._enough.set()
        self._thread.join(REQUEST_TIMEOUT_S * 3)
        if self._thread.is_alive():
            raise AssertionError("requests are still under way long after the last was sent")
        if self._failure is not None:
            raise self._failure

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
        """Return when so many more orders were accepted."""
        wanted = self.accepted + orders
        wait_until(
            lambda: self.accepted >= wanted or not self._thread.is_alive(),
            timeout_s=timeout_s,
            what=f"{orders} more orders are accepted",
        )
        assert self.accepted >= wanted, self._failure

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
