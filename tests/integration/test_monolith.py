"""`symphony worker monolith` on real servers: every role in one process, from order to end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import ConsumerGroupState
from confluent_kafka.admin import AdminClient
from prometheus_client import Metric

from app.db.migrate import seed
from app.roles import ROLES
from app.settings import load_settings
from app.topic_admin import apply
from chaos.lab.broker import Broker
from chaos.lab.process import free_port, spawn, tail
from tests import live_scrape
from tests.integration.gateway_process import GatewayProcess
from tests.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.faults]

PARTITIONS = 4
ORDERS = 30
ROOT = Path(__file__).parents[2]


class MonolithProcess:
    """One monolith after the other, on the same ports and files."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.web, self.health = free_port(), free_port()
        self.log = directory / "monolith.log"
        own = {"DATA_DIR": str(directory / "data"), "LOG_FORMAT": "json"}
        ports = {"WEB_PORT": str(self.web), "HEALTH_PORT": str(self.health)}
        self._settings = {**settings, **own, **ports}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when every role is ready."""
        self._process = self.spawn("monolith")
        wait_until(self._ready, timeout_s=90, what=f"every role is ready: {tail(self.log)}")

    def spawn(self, role: str, **settings: str) -> subprocess.Popen[bytes]:
        """Start `symphony worker ROLE` with the monolith's settings, some of them replaced."""
        settings = {**self._settings, **settings}
        variables = {f"SYMPHONY_{name}": value for name, value in settings.items()}
        return spawn(
            [sys.executable, "-P", "-m", "app.cli", "worker", role],
            log=self.log,
            env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
            cwd=self.log.parent,
        )

    def end(self, number: signal.Signals) -> int:
        """Send the signal; return the exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(60)

    def close(self) -> None:
        """End what still runs."""
        if self._process is not None and self._process.poll() is None:
            self.end(signal.SIGKILL)

    def ask(self, path: str, accept: str = "*/*") -> str:
        """The answer of the health port."""
        address = f"http://127.0.0.1:{self.health}/{path}"
        request = urllib.request.Request(address, headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=5) as answer:
            said: str = answer.read().decode()
            return said

    def order(self) -> str:
        """Place an order; returns its id."""
        body = {
            "customerId": "ada",
            "items": [{"productId": "ROSIN", "quantity": 1}],
            "shippingAddress": "1 Main Street, 53111 Bonn",
        }
        said = self._call("orders", json.dumps(body).encode())
        return str(said["orderId"])

    def completed(self, orders: Sequence[str]) -> bool:
        """Whether all of them are COMPLETED by the API."""
        return all(self._call(f"orders/{one}")["status"] == "COMPLETED" for one in orders)

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, tail(self.log)
        with suppress(OSError):
            return bool(self.ask("readyz"))
        return False

    def _call(self, path: str, body: bytes | None = None) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.web}/api/{path}",
            body,
            {"Content-Type": "application/json"} if body else {},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            said: dict[str, Any] = json.load(answer)
            return said


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path / "ledger.jsonl").start()
    yield process
    process.stop()


@pytest.fixture
def namespace() -> str:
    """Consumer groups of this test alone."""
    return f"test-{uuid4().hex[:8]}"


@pytest.fixture
def broker(servers_dir: Path, namespace: str) -> Iterator[Broker]:
    """A broker of this test alone: its topics are everybody's."""
    server = Broker(servers_dir / f"broker-{namespace}")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def monolith(
    broker: Broker, database: str, gateway: GatewayProcess, namespace: str, tmp_path: Path
) -> Iterator[MonolithProcess]:
    """Every role in one process, on topics as `symphony topics apply` makes them."""
    settings = load_settings(
        namespace=namespace, broker_bootstrap=broker.bootstrap, topic_partitions=PARTITIONS
    )
    asyncio.run(apply(settings))
    seed(database)
    made = MonolithProcess(
        tmp_path,
        NAMESPACE=namespace,
        BROKER_BOOTSTRAP=broker.bootstrap,
        POSTGRES_DSN=database,
        GATEWAY_URL=gateway.url,
        TOPIC_PARTITIONS=str(PARTITIONS),
        SESSION_TIMEOUT_S="6",
    )
    made.start()
    yield made
    made.close()


def members(broker: Broker, groups: Sequence[str]) -> dict[str, int]:
    """Members of each group by the broker's account, 0 for a group that is not stable."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    asked = {
        name: future.result(20)
        for name, future in admin.describe_consumer_groups(list(groups)).items()
    }
    return {
        name: len(group.members) if group.state is ConsumerGroupState.STABLE else 0
        for name, group in asked.items()
    }


def scrape(monolith: MonolithProcess) -> dict[str, Metric] | None:
    """The metrics of every role, once the census has seen their groups caught up."""
    plain = monolith.ask("metrics")
    shown = live_scrape.check(plain, monolith.ask("metrics", "application/openmetrics-text"))
    if not {name for name, family in shown.items() if family.samples} >= UNKNOWN_AT_FIRST:
        return None
    lag = shown["symphony_consumer_lag_records"].samples
    return None if any(one.value for one in lag) else shown


UNKNOWN_AT_FIRST = {
    "symphony_consumer_lag_records",
    "symphony_consumer_lag_seconds",
    "symphony_consumer_members",
    "symphony_saga_active",
    "symphony_postgres_connections",
    "symphony_postgres_transaction_oldest_seconds",
    "symphony_table_entries",
    "symphony_commit_age_seconds",
    "symphony_delivery_rebalance_seconds",
}


def test_an_order_completes_and_sigterm_ends_in_good_order(
    monolith: MonolithProcess, broker: Broker, namespace: str
) -> None:
    """All roles work under their own groups, names and metrics; SIGTERM ends with exit code 0, and
    the next process goes on."""
    first = monolith.order()
    wait_until(lambda: monolith.completed([first]), timeout_s=60, what="the order completes")
    roles = [role for role in ROLES.values() if role.standard]
    status = json.loads(monolith.ask("status"))
    assert list(status["roles"]) == [role.name for role in roles]
    assert all(said["role"] == name for name, said in status["roles"].items())
    groups = [f"{namespace}-{role.name}" for role in roles if role.consumes]
    assert members(broker, groups) == dict.fromkeys(groups, 1), "one group for each role"
    shown = wait_until(
        lambda: scrape(monolith), timeout_s=60, what="the census says that all is committed"
    )
    assert shown["symphony_worker_ready"].samples[0].value == 1
    workers = {sample.labels["role"] for sample in shown["symphony_worker_info"].samples}
    assert workers >= {role.name for role in roles}
    census = shown["symphony_consumer_members"].samples
    assert {one.labels["role"]: one.value for one in census} == {
        role.name: 1 for role in roles if role.consumes
    }
    assert monolith.end(signal.SIGTERM) == 0, tail(monolith.log)
    monolith.start()
    second = monolith.order()
    wait_until(lambda: monolith.completed([second]), timeout_s=60, what="the next one completes")
    assert monolith.end(signal.SIGTERM) == 0, tail(monolith.log)


def test_a_worker_of_one_role_runs_beside_it(
    monolith: MonolithProcess, broker: Broker, namespace: str
) -> None:
    """It joins the role's group, and the orders complete with two members and with one again."""
    group = f"{namespace}-payment"
    beside = monolith.spawn("payment", HEALTH_PORT="0")
    try:
        wait_until(
            lambda: members(broker, [group]) == {group: 2},
            timeout_s=60,
            what=f"two members: {tail(monolith.log)}",
            every_s=0.2,
        )
        orders = [monolith.order() for _ in range(ORDERS)]
        wait_until(lambda: monolith.completed(orders), timeout_s=60, what="every order completes")
        beside.terminate()
        assert beside.wait(60) == 0, tail(monolith.log)
    finally:
        beside.kill()
        beside.wait(10)
    last = monolith.order()
    wait_until(lambda: monolith.completed([last]), timeout_s=60, what="the next one completes")


def test_a_killed_monolith_continues(monolith: MonolithProcess, gateway: GatewayProcess) -> None:
    """kill -9 in the middle of work: the next process completes every order, each charged once."""
    orders = [monolith.order() for _ in range(ORDERS)]
    monolith.end(signal.SIGKILL)
    monolith.start()
    orders += [monolith.order() for _ in range(ORDERS)]
    wait_until(
        lambda: monolith.completed(orders), timeout_s=90, what="every order completes", every_s=0.5
    )
    charged = Counter(line["order_id"] for line in gateway.lines(op="charge", outcome="ok"))
    assert charged == dict.fromkeys(orders, 1)
    assert monolith.end(signal.SIGTERM) == 0, tail(monolith.log)
