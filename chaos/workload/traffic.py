"""Orders that keep coming while something breaks, from a thread of their own."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import Self

from chaos.workload.command import ledger_path
from chaos.workload.generator import Load, read_catalogue
from chaos.workload.ledger import LedgerFile, Line
from chaos.workload.mix import DEFAULT_MIX, Order, Outcome, Product, plan
from chaos.workload.target import Target

PLANNED_AT_ONCE = 5_000
IN_FLIGHT_MAX = 5_000
REQUEST_TIMEOUT_S = 20.0
LOOK_S = 0.05


class TrafficFailed(Exception):
    """The orders stopped, or do not come through; the text says why."""


class Traffic:
    """A constant rate of orders of every class, from entering the context to leaving it.

    Leaving waits for the last answers. The requests stand in `ledger`, where the auditor looks.
    `mix` says how many orders of which class there are.
    """

    def __init__(
        self,
        target: Target,
        *,
        rate_per_s: float,
        seed: int,
        mix: Mapping[Outcome, float] = DEFAULT_MIX,
    ) -> None:
        self.ledger: Path = ledger_path(target, token_hex(5))
        self._url = target.url
        self._rate_per_s, self._seed, self._mix = rate_per_s, seed, mix
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

    def creates_since(self, at_s: float) -> list[Line]:
        """The same of those that ended since `at_s` (Unix), newest first; costs only them."""
        lines = self._load.lines if self._load is not None else []
        recent = itertools.takewhile(lambda line: line.returned_s >= at_s, reversed(lines))
        return [line for line in recent if line.kind == "create"]

    @property
    def accepted(self) -> int:
        """How many orders were accepted so far."""
        return sum(line.outcome == "ok" for line in self.creates)

    def flow(self, orders: int, *, timeout_s: float = 120.0) -> None:
        """Return when so many more orders were accepted. Raises TrafficFailed."""
        wanted = self.accepted + orders
        deadline = time.monotonic() + timeout_s
        while self.accepted < wanted:
            self.check()
            if time.monotonic() > deadline:
                raise TrafficFailed(f"{orders} more orders were not accepted in {timeout_s:g} s")
            time.sleep(LOOK_S)

    def check(self) -> None:
        """Raise TrafficFailed when orders have ceased to flow by themselves."""
        if not self._thread.is_alive():
            raise TrafficFailed(f"the load ended: {self._failure!r}")

    def _run(self) -> None:
        try:
            asyncio.run(self._send())
        except Exception as error:
            self._failure = error

    async def _send(self) -> None:
        catalogue = await read_catalogue(self._url)
        orders = without_end(self._rate_per_s, self._seed, catalogue, self._mix)
        with LedgerFile(self.ledger) as file:
            self._load = Load(
                self._url,
                file,
                run=token_hex(5),
                in_flight_max=IN_FLIGHT_MAX,
                timeout_s=REQUEST_TIMEOUT_S,
            )
            await self._load.run(itertools.takewhile(lambda _: not self._enough.is_set(), orders))


def without_end(
    rate_per_s: float,
    seed: int,
    catalogue: Sequence[Product],
    mix: Mapping[Outcome, float] = DEFAULT_MIX,
) -> Iterator[Order]:
    """Orders of every class, one every 1/`rate_per_s` seconds, planned 5,000 at once.

    Equal arguments give equal orders. Raises UnusableMixError when nothing is sold out.
    """
    for part in itertools.count():
        planned = plan(PLANNED_AT_ONCE, rate_per_s, seed + part, mix, catalogue)
        for order in planned:
            number = part * PLANNED_AT_ONCE + order.number
            yield order._replace(number=number, due_s=number / rate_per_s)
