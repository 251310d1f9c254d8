"""A lab with all roles whose workers die at chosen points, and what makes them come by there."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg2
from confluent_kafka import Producer

from app.messages import Cause, PaymentResult, emit
from app.topics import CATALOGUE
from chaos.lab.client import Lab
from tests.chaos.crash_points import Death
from tests.waiting import wait_until

CRASHED = "exited with 137"
PATIENCE_S = 180.0
LOCKED = "inventory.reservation"
UNFINISHED = (
    "select o.order_id::text, s.state, s.reason, o.created_at::text from orders.orders o"
    " left join orders.saga s using (order_id)"
    " where coalesce(s.state, '') not in ('COMPLETED', 'CANCELLED')"
)


class CrashLab:
    """A running lab; every order it ever asked for stands in `orders` by its idempotency key."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        status = lab.status()
        self.url, self.dsn = status["web"]["url"], status["postgres"]["dsn"]
        self.gateway_url = status["gateway"]["url"]
        self.bootstrap = status["broker"]["bootstrap"]
        self.gateway_ledger = Path(status["gateway"]["ledger"])
        self.orders: dict[str, str | None] = {}
        self._log_at: dict[str, int] = {}

    # Deaths

    def die(self, deaths: Sequence[Death]) -> None:
        """Let workers die at their points, all at once; returns when their successors serve."""
        with ThreadPoolExecutor(len(deaths)) as pool:
            list(pool.map(self._arm, deaths))
            list(pool.map(self._see, deaths))
        for death in deaths:
            getattr(self, f"after_{death.by}", lambda _: None)(death)

    def _arm(self, death: Death) -> None:
        rules = ",".join(filter(None, (death.rules, f"{death.point}=crash")))
        settings = {"PLUGINS": "chaos.injector", "FAILPOINTS": rules, "LOG_FORMAT": "json"}
        settings |= dict(death.settings)
        environment = {f"SYMPHONY_{name}": value for name, value in settings.items()}
        self._log_at[death.worker] = len(self._log(death.worker))
        starts = death.by == "start"
        self.lab.restart(death.worker, environment=environment, wait=not starts)

    def _see(self, death: Death) -> None:
        """Make the worker come by until it died of it; then somebody else serves in its place."""
        began = time.monotonic()
        while not self._struck(death):
            assert time.monotonic() - began < PATIENCE_S, f"{death}\n{self._picture(death.worker)}"
            getattr(self, f"by_{death.by}")(death)
        if death.by == "stop":
            return
        wait_until(
            lambda: self._replaced(death.worker),
            timeout_s=PATIENCE_S,
            what=f"{death.worker} serves again",
        )

    def _replaced(self, worker: str) -> bool:
        row = self.lab.process(worker)
        return bool(row["state"] == "ready" and row["last_exit"] == CRASHED)

    def _struck(self, death: Death) -> bool:
        new = self._log(death.worker)[self._log_at[death.worker] :]
        return any('"fault.injected"' in line and f'"{death.point}"' in line for line in new)

    def _picture(self, worker: str) -> str:
        """What there is to see of a worker that does not come by: where the work stands."""
        seen: dict[str, Any] = {
            "log": self._log(worker)[self._log_at[worker] :][-40:],
            "processes": self.lab.status(delivery=True)["processes"],
            "open sagas": self.rows(UNFINISHED),
            "outbox": self.rows("select count(*), min(created_at)::text from ops.outbox"),
            "runs": self.rows("select * from ops.worker_run order by started_at desc limit 12"),
            "journal": self.rows("select * from ops.killer_journal"),
        }
        return json.dumps(seen, indent=1, default=str)

    def _log(self, worker: str) -> list[str]:
        return self.lab.files.log_of(worker).read_text(errors="replace").splitlines()

    # What makes a worker come by

    def by_start(self, death: Death) -> None:
        """It passes while it starts."""
        self._pause(death)

    def by_order(self, death: Death) -> None:
        """An order goes through every role."""
        self.place(str(uuid4()))
        self._pause(death)

    def by_cancel(self, death: Death) -> None:
        """A customer cancels an order."""
        order_id = self.place(str(uuid4()))
        if order_id is not None:
            self._ask("POST", f"{self.url}/api/orders/{order_id}/cancel", {"reason": "changed"})
        self._pause(death)

    def by_stop(self, death: Death) -> None:
        """It ends in good order."""
        row = self.lab.stop(death.worker, grace_s=60)
        assert row["last_exit"] == CRASHED

    def after_stop(self, death: Death) -> None:
        """A stopped part stays ended until it is started."""
        self.lab.start(death.worker)

    def by_join(self, death: Death) -> None:
        """A second worker of its role joins the group, so partitions are revoked."""
        self.lab.scale(death.worker.rpartition("-")[0], 2, wait=False)
        self._pause(death)

    def after_join(self, death: Death) -> None:
        """One worker again."""
        self.lab.scale(death.worker.rpartition("-")[0], 1)

    def by_lock(self, death: Death) -> None:
        """Somebody holds a table that its transaction needs for longer than the lock timeout."""
        with closing(psycopg2.connect(self.dsn)) as connection:
            with connection.cursor() as cursor:
                cursor.execute(f"lock table {LOCKED} in access exclusive mode")
            self.place(str(uuid4()))
            self._wait(lambda: self._struck(death), 10)
            connection.rollback()

    def by_stray(self, death: Death) -> None:
        """A result for an order that nobody knows: the working copies say nothing of it."""
        order_id, event_id = str(uuid4()), str(uuid4())
        body = PaymentResult(
            order_id=order_id, operation="charge", outcome="DECLINED", command_id=str(uuid4())
        )
        out = emit(
            Cause(order_id, order_id),
            CATALOGUE["payment.result"],
            body,
            event_id=event_id,
            now=datetime.now(UTC),
            source="/test",
        )
        producer = Producer({"bootstrap.servers": self.bootstrap})
        producer.produce(out.topic, out.value, out.key, headers=list(out.headers))
        assert producer.flush(20) == 0
        self._pause(death)

    def by_gateway_error(self, death: Death) -> None:
        """The gateway answers nothing but errors until the worker has died."""
        with self.gateway(mode="ERROR"):
            self.place(str(uuid4()))
            self._pause(death, 15)

    def by_cancel_unknown(self, death: Death) -> None:
        """A charge is captured, its answer lost; the customer cancels before it is known."""
        with self.gateway(reply_lost_rate=1.0):
            order_id = self.place(str(uuid4()))
            self._wait(lambda: f'"{order_id}"' in self.gateway_ledger.read_text(), 20)
            self._wait(lambda: self._waits_for_retry(str(order_id)), 20)
        self._ask("POST", f"{self.url}/api/orders/{order_id}/cancel", {"reason": "changed"})
        self._pause(death, 15)

    def _waits_for_retry(self, order_id: str) -> bool:
        sql = "select count(*) from orders.order_history where order_id = %s and event = 'retrying'"
        return bool(self.rows(sql, order_id)[0][0])

    # The platform from outside

    def place(self, key: str) -> str | None:
        """Place an order under an idempotency key; None when there was no answer."""
        body = {"customerId": "crash", "total": "12.50", "currency": "EUR"}
        answer = self._ask("POST", f"{self.url}/api/orders", body, key)
        self.orders[key] = None if answer is None else str(answer["orderId"])
        return self.orders[key]

    def settle(self) -> None:
        """Ask again for what was not answered; then every order exists once and has ended."""
        for key, order_id in list(self.orders.items()):
            if order_id is None:
                wait_until(lambda key=key: self.place(key), timeout_s=PATIENCE_S, what="an answer")
        ids = sorted(str(one) for one in self.orders.values())
        assert len(set(ids)) == len(ids)
        wait_until(
            lambda: not self.rows(UNFINISHED) and not self.rows("select from ops.outbox"),
            timeout_s=PATIENCE_S,
            what="every order ends",
        )
        assert (
            sorted(one for (one,) in self.rows("select order_id::text from orders.orders")) == ids
        )
        kept = self._captured()
        states = dict(self.rows("select order_id::text, state from orders.saga"))
        assert {one: kept.get(one, 0) for one in ids} == {
            one: 1250 * (states[one] == "COMPLETED") for one in ids
        }

    def _captured(self) -> dict[str, int]:
        """Money that the gateway holds, by order, from its own ledger."""
        kept: dict[str, int] = {}
        for line in map(json.loads, self.gateway_ledger.read_text().splitlines()):
            sign = {"charge": 1, "refund": -1}.get(line["op"], 0)
            if line["outcome"] == "ok":
                order_id = line["order_id"]
                kept[order_id] = kept.get(order_id, 0) + sign * line["amount_minor"]
        return kept

    @contextmanager
    def gateway(self, **changes: Any) -> Iterator[None]:
        """Change the gateway's behaviour, and back."""
        self._ask("PUT", f"{self.gateway_url}/v1/mode", changes)
        yield
        usual = {"mode": "SUCCESS", "reply_lost_rate": 0.0}
        assert self._ask("PUT", f"{self.gateway_url}/v1/mode", usual) is not None

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a select."""
        with closing(psycopg2.connect(self.dsn)) as connection, connection.cursor() as cursor:
            cursor.execute(sql, values)
            return list(cursor.fetchall())

    def _ask(self, method: str, url: str, body: Any, key: str = "") -> Any:
        """The answer's JSON; None when none came."""
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        request = urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                if error.code not in (409, 503):
                    raise AssertionError(error.read()) from error
                return None
        except OSError:
            return None

    def _pause(self, death: Death, timeout_s: float = 5.0) -> None:
        self._wait(lambda: self._struck(death), timeout_s)

    @staticmethod
    def _wait(condition: Any, timeout_s: float) -> None:
        """Wait for a condition, or until it is time to try something again."""
        deadline = time.monotonic() + timeout_s
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.05)
