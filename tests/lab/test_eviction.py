"""Evicting a dead member: its group is free at once, and nobody else is touched."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from chaos.lab.broker import Broker
from chaos.lab.eviction import evict
from tests.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.faults]
GROUP, TOPIC, SESSION_S = "evicted-group", "evicted-topic", 40

MEMBER = """
import sys
from confluent_kafka import Consumer
consumer = Consumer({"bootstrap.servers": sys.argv[1], "group.id": sys.argv[2],
                     "client.id": sys.argv[3], "session.timeout.ms": int(sys.argv[5]) * 1000})
consumer.subscribe([sys.argv[4]])
while True:
    consumer.poll(0.2)
"""


def _members(admin: AdminClient) -> dict[str, int]:
    """Partitions by client id, once the group is stable."""
    try:
        asked = admin.describe_consumer_groups([GROUP], request_timeout=5)
        group = asked[GROUP].result(timeout=10)
    except (KafkaException, TimeoutError):
        return {}  # the coordinator is still loading
    if group.state.name != "STABLE":
        return {}
    return {m.client_id: len(m.assignment.topic_partitions) for m in group.members}


def test_a_dead_member_leaves_at_once(broker: Broker) -> None:
    """Partitions of a killed member move within seconds, not after its session of 40 s."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(TOPIC, 4, 1)])[TOPIC].result(timeout=60)
    members = {
        client: subprocess.Popen(
            [sys.executable, "-c", MEMBER, broker.bootstrap, GROUP, client, TOPIC, str(SESSION_S)]
        )
        for client in ("worker-1.aaaa", "worker-1.bbbb")
    }
    try:
        wait_until(
            lambda: _members(admin) == dict.fromkeys(members, 2),
            timeout_s=120,
            what="both joined",
            every_s=0.2,
        )
        dead = members["worker-1.aaaa"]
        dead.kill()
        dead.wait()
        started = time.monotonic()
        assert asyncio.run(evict(broker.bootstrap, GROUP, "worker-1.aaaa")) == 1
        wait_until(
            lambda: _members(admin) == {"worker-1.bbbb": 4},
            timeout_s=SESSION_S - 10,
            every_s=0.2,
            what="the survivor has all partitions",
        )
        # a session ends that long after the last heartbeat, and one comes every 3 s
        assert time.monotonic() - started < SESSION_S - 5
        assert asyncio.run(evict(broker.bootstrap, GROUP, "worker-1.aaaa")) == 0
        wait_until(
            lambda: _members(admin) == {"worker-1.bbbb": 4},
            timeout_s=SESSION_S / 2,
            every_s=0.2,
            what="the survivor still has all partitions",
        )
    finally:
        for process in members.values():
            process.kill()
            process.wait()
