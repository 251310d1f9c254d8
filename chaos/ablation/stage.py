"""A lab on which an experiment plays: its load, its faults, and the proof that they struck.

Synchronous. Everything raises LabError when the lab refuses, and Void when a fault had no effect:
such a run says nothing about a cure.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import psycopg2

from app.messages import Output, deadletter
from chaos import records
from chaos.lab.client import Lab
from chaos.lab.process import LabError
from chaos.records import Record
from chaos.workload.command import ledger_path
from chaos.workload.generator import Load, read_catalogue
from chaos.workload.ledger import LedgerFile, Line
from chaos.workload.mix import DEFAULT_MIX, Order, Outcome, plan
from chaos.workload.target import target_of

RATE_PER_S = 60.0
PATIENCE_S = 120.0
LOOK_S = 0.05
HTTP_TIMEOUT_S = 20.0


class Void(Exception):
    """A fault had no effect: the run proves nothing."""


class PatientLoad(Load):
    """A load whose customers change their minds when they are told to."""

    cancel_when: threading.Event | None = None

    async def _cancel(
        self, session: aiohttp.ClientSession, order: Order, created: Line, order_id: str
    ) -> None:
        """Extends the cancellation: wait for `cancel_when`."""
        while self.cancel_when is not None and not self.cancel_when.is_set():
            await asyncio.sleep(LOOK_S)
        await super()._cancel(session, order, created, order_id)


class Stage:
    """A running lab; `seed` decides about the orders, `orders` is how many the experiment sends.

    `redrive` is how its operator sends dead letters back.
    """

    def __init__(
        self,
        lab: Lab,
        *,
        seed: int,
        orders: int,
        redrive: Callable[..., Output] = deadletter.redrive,
    ) -> None:
        self.lab = lab
        self._redrive = redrive
        self.target = target_of(lab)
        self.seed = seed
        self.orders = orders
        self.lines: list[Line] = []
        self._sent = 0

    # Load

    def load(
        self,
        orders: int,
        *,
        mix: Mapping[Outcome, float] | None = None,
        rate_per_s: float = RATE_PER_S,
        cancel_when: threading.Event | None = None,
    ) -> list[Line]:
        """Send `orders` orders and wait for all answers; returns those of this load.

        Customers of the class `cancelled` change their minds at once, or when `cancel_when` is set.
        """
        return asyncio.run(self._load(orders, mix or DEFAULT_MIX, rate_per_s, cancel_when))

    async def _load(
        self,
        orders: int,
        mix: Mapping[Outcome, float],
        rate_per_s: float,
        cancel_when: threading.Event | None,
    ) -> list[Line]:
        catalogue = await read_catalogue(self.target.url)
        self._sent += 1
        run = f"ablation-{self.seed}-{self._sent}"
        planned = plan(orders, rate_per_s, self.seed + self._sent, mix, catalogue)
        with LedgerFile(ledger_path(self.target, run)) as file:
            load = PatientLoad(self.target.url, file, run=run)
            load.cancel_when = cancel_when
            await load.run(planned)
        self.lines += load.lines
        return load.lines

    @contextmanager
    def flowing(self, orders: int, **how: Any) -> Iterator[None]:
        """Send orders beside the block; leaving it waits for the last answer."""
        with ThreadPoolExecutor(1, thread_name_prefix="load") as pool:
            sending = pool.submit(self.load, orders, **how)
            yield
            sending.result()

    @property
    def accepted(self) -> list[str]:
        """Ids of the orders that were accepted so far."""
        return [one.order_id for one in self.lines if one.kind == "create" and one.outcome == "ok"]

    @property
    def cancelled(self) -> list[str]:
        """Ids of the orders whose cancellation was taken."""
        return [one.order_id for one in self.lines if one.kind == "cancel" and one.outcome == "ok"]

    # Faults

    def arm(self, worker: str, rules: str) -> None:
        """Start a worker anew with failpoints armed; its successor has none."""
        self.lab.restart(worker, environment={"SYMPHONY_FAILPOINTS": rules})

    def struck(self, worker: str, point: str) -> None:
        """Return once a fault struck `worker` at `point`. Raises Void when none does."""
        self.until(lambda: self.strikes(worker, point), f"{worker} comes by {point}")

    def strikes(self, worker: str, point: str) -> int:
        """How often a fault has struck `worker` at `point`."""
        return sum('"fault.injected"' in line and f'"{point}"' in line for line in self.log(worker))

    def crashed(self, worker: str, point: str) -> None:
        """Return once `worker` died at `point` and its successor serves. Raises Void."""
        self.struck(worker, point)
        self.until(lambda: self._back(worker, "exited with 137"), f"{worker} is back after {point}")

    def _back(self, worker: str, how: str) -> bool:
        row = self.lab.process(worker)
        return bool(row["state"] == "ready" and row["last_exit"] == how)

    def gateway(self, **changes: Any) -> None:
        """Change how the payment gateway behaves."""
        url = self.lab.status()["gateway"]["url"]
        request = urllib.request.Request(  # noqa: S310 (the lab's own gateway)
            f"{url}/v1/mode", json.dumps(changes).encode(), method="PUT"
        )
        with urllib.request.urlopen(request, timeout=HTTP_TIMEOUT_S) as reply:  # noqa: S310
            reply.read()

    def cancel(self, order_ids: Iterable[str]) -> int:
        """Have customers cancel; returns how many requests were taken."""
        taken = 0
        for order_id in order_ids:
            request = urllib.request.Request(  # noqa: S310 (the lab's own API)
                f"{self.target.url}/api/orders/{order_id}/cancel",
                b'{"reason": "changed my mind"}',
                {"Content-Type": "application/json"},
                method="POST",
            )
            try:
                with urllib.request.urlopen(request, timeout=HTTP_TIMEOUT_S) as reply:  # noqa: S310
                    taken += reply.status == 202
            except urllib.error.HTTPError as error:
                error.close()
        return taken

    def send_back(self, letters: Sequence[Record]) -> None:
        """Have an operator send dead letters back to where they failed."""
        not_after = datetime.now(UTC) + timedelta(minutes=5)
        back = []
        for letter in letters:
            out = self._redrive(letter, not_after=not_after)
            back.append(letter._replace(topic=out.topic, value=out.value,
                                        headers=tuple(out.headers)))  # fmt: skip
        self.publish(back)

    # What can be seen from outside

    def until(self, condition: Callable[[], Any], what: str) -> None:
        """Return when `condition` holds. Raises Void naming `what` after PATIENCE_S."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline:
                raise Void(f"not within {PATIENCE_S:g} s: {what}")
            time.sleep(LOOK_S)

    def count(self, sql: str, *values: Any) -> int:
        """The number that a select on PostgreSQL returns. Raises LabError."""
        try:
            with closing(psycopg2.connect(self.target.dsn)) as connection:
                connection.set_session(readonly=True, autocommit=True)
                with connection.cursor() as cursor:
                    cursor.execute(sql, values)
                    row = cursor.fetchone()
        except psycopg2.Error as error:
            raise LabError(" ".join(str(error).split())) from None
        return int(row[0]) if row else 0

    def gateway_lines(self) -> list[dict[str, Any]]:
        """What the gateway has recorded, without the line that it is writing."""
        whole = self.target.gateway_ledger.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def records(self, topics: Iterable[str]) -> list[Record]:
        """Every record of `topics` now."""
        return list(records.read(self.target.bootstrap, topics))

    def publish(self, listed: Sequence[Record]) -> None:
        """Write records as they are. Raises LabError unless the broker took all."""
        records.publish(self.target.bootstrap, listed)

    def log(self, worker: str) -> list[str]:
        """The log of a part, line by line."""
        path = self.lab.files.log_of(worker)
        return path.read_text(errors="replace").splitlines() if path.exists() else []
