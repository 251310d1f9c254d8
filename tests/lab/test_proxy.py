"""A whole lab with the proxy between the workers and Kafka, PostgreSQL and the gateway."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka.admin import AdminClient

from app.settings import load_settings
from chaos.lab.cli import make_plan
from chaos.lab.client import Lab
from tests.faults.whole_lab import PATIENCE_S, Platform, port_closed
from tests.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.faults]

ACCEPTED = (201, 202)
NAMES = ("kafka", "postgres", "gateway")
LEASE_MS = 60_000
"""Longer than any test: what a failing one leaves behind."""


@pytest.fixture(scope="module")
def platform(servers_dir: Path) -> Iterator[Platform]:
    """A lab with proxy."""
    settings = load_settings(lab_dir=servers_dir / "proxied" / ".lab", lab_proxy=True)
    settings.lab_dir.parent.mkdir()
    lab = Lab.up(make_plan(settings, proxy_seed=1), detach=False)
    yield Platform(lab, rate_per_s=5)
    lab.down()


def call(platform: Platform, method: str, path: str, body: Any = None) -> Any:
    """One request to the proxy that must succeed; its body."""
    url = platform.lab.status()["proxy"]["url"]
    raw = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, raw, method=method)
    with urllib.request.urlopen(request, timeout=20) as reply:
        text = reply.read()
    return json.loads(text) if text else None


def stats(platform: Platform, name: str) -> dict[str, Any]:
    """The counters of one proxy."""
    found: dict[str, Any] = call(platform, "GET", f"/proxies/{name}")["stats"]
    return found


def accepted(platform: Platform) -> str:
    """The id of a new order."""
    answer = platform.order()
    assert answer.status in ACCEPTED, answer
    return str(answer.body["orderId"])


def completes(platform: Platform, order_id: str) -> None:
    """Wait until an order is completed."""
    wait_until(
        lambda: (
            platform.rows("select state from orders.saga where order_id = %s", order_id)
            == [("COMPLETED",)]
        ),
        timeout_s=PATIENCE_S,
        what=f"{order_id} is completed",
    )


def test_an_order_passes_through_all_three_proxies(platform: Platform) -> None:
    """Bytes of an order cross each proxy in both directions, and no worker knows another way."""
    status = platform.lab.status()
    before = {name: stats(platform, name) for name in NAMES}
    completes(platform, accepted(platform))
    for name in NAMES:
        now = stats(platform, name)
        assert now["bytes_upstream"] > before[name]["bytes_upstream"]
        assert now["bytes_downstream"] > before[name]["bytes_downstream"]
    proxies = status["proxy"]["proxies"]
    assert set(proxies) == set(NAMES)
    assert proxies["gateway"]["upstream"] == status["gateway"]["url"].removeprefix("http://")
    assert proxies["postgres"]["upstream"] in status["postgres"]["dsn"]
    assert proxies["kafka"]["upstream"] != status["broker"]["bootstrap"]
    direct = {status["broker"]["bootstrap"], *(one["upstream"] for one in proxies.values())}
    behind = {one["listen"] for one in proxies.values()}
    for row in status["processes"]:
        if row["name"].endswith("-1"):
            found = remotes(row["pid"])
            assert not found & direct, row["name"]
            assert found & behind, row["name"]


def remotes(pid: int) -> set[str]:
    """The addresses that a process is connected to."""
    connections = psutil.Process(pid).net_connections("tcp")
    return {f"{one.raddr.ip}:{one.raddr.port}" for one in connections if one.raddr}


def test_without_kafka_workers_wait_and_then_go_on(platform: Platform) -> None:
    """Down before the workers only: they notice, the laboratory still reaches the broker, and the
    order completes when the proxy is up again.
    """
    restarts = platform.lab.process("orchestrator-1")["restarts"]

    def noticed() -> bool:
        row = next(
            row
            for row in platform.lab.status(delivery=True)["processes"]
            if row["name"] == "orchestrator-1"
        )
        consumers = (row.get("delivery") or {}).get("consumers", ())
        stuck = any(one["state"] == "working" and one["state_age_s"] > 1 for one in consumers)
        return stuck or row["restarts"] > restarts

    call(platform, "POST", "/proxies/kafka", {"enabled": False, "lease_ms": LEASE_MS})
    assert stats(platform, "kafka")["connections_open"] == 0
    order_id = accepted(platform)
    wait_until(noticed, timeout_s=PATIENCE_S, what="the orchestrator misses the broker")
    assert platform.rows("select 1 from orders.saga where order_id = %s", order_id) == []
    assert platform.count("select count(*) from ops.outbox where aggregate_id = %s", order_id) == 1
    direct = AdminClient({"bootstrap.servers": platform.target.bootstrap})
    assert direct.list_topics(timeout=10).brokers
    call(platform, "POST", "/proxies/kafka", {"enabled": True})
    completes(platform, order_id)


def test_a_black_hole_before_postgresql_is_an_outage_and_ends(platform: Platform) -> None:
    """Answers of the database vanish: the API says so, nothing ends, and the next order completes.

    An order whose COMMIT was lost in the hole may exist; it must not be told as accepted.
    """
    body = {"type": "timeout", "stream": "downstream", "lease_ms": LEASE_MS}
    call(platform, "POST", "/proxies/postgres/toxics", body)
    answer = platform.order()
    assert (answer.status, answer.retry_after != "") == (503, True), answer
    assert stats(platform, "postgres")["bytes_dropped"] > 0
    call(platform, "DELETE", "/proxies/postgres/toxics/timeout_downstream")
    wait_until(
        lambda: platform.order().status in ACCEPTED,
        timeout_s=PATIENCE_S,
        what="orders are accepted again",
    )
    completes(platform, accepted(platform))


def test_an_answer_of_the_gateway_that_is_cut_off_is_asked_for_again(platform: Platform) -> None:
    """The charge was made and its answer lost by RST: the same key again, one charge, an order."""
    lines = len(platform.gateway_lines())
    resets = stats(platform, "gateway")["resets"]
    body = {"type": "reset_peer", "stream": "downstream", "lease_ms": LEASE_MS}
    call(platform, "POST", "/proxies/gateway/toxics", body)
    order_id = accepted(platform)
    wait_until(
        lambda: stats(platform, "gateway")["resets"] > resets,
        timeout_s=PATIENCE_S,
        what="an answer was cut off",
    )
    call(platform, "DELETE", "/proxies/gateway/toxics/reset_peer_downstream")
    completes(platform, order_id)
    charges = [
        line
        for line in platform.gateway_lines(lines)
        if line["op"] == "charge" and line["order_id"] == order_id
    ]
    assert len(charges) > 1
    assert len({line["idempotency_key"] for line in charges}) == 1
    assert [line["outcome"] for line in charges].count("ok") == 1


def test_a_killed_proxy_comes_back_without_its_toxics(platform: Platform) -> None:
    """The supervisor starts it at the same ports, workers connect again, and work goes on."""
    before = platform.lab.status()["proxy"]
    call(platform, "POST", "/proxies/kafka/toxics", {"type": "timeout"})
    platform.kill_and_see("proxy")
    assert platform.lab.status()["proxy"] == before
    assert not any(port_closed(one["listen"]) for one in before["proxies"].values())
    assert call(platform, "GET", "/proxies/kafka/toxics") == []
    wait_until(
        lambda: not platform.unfinished(),
        timeout_s=PATIENCE_S,
        what="all workers are ready and have nothing left",
    )
    completes(platform, accepted(platform))
