"""PostgreSQL goes away and comes back: batches are held, not failed, and nothing happens twice."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from chaos.lab.postgres import Postgres
from tests.conformance.stage import Stage
from tests.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.faults, pytest.mark.timeout(900)]

HELD = ("held", "database")


@pytest.fixture
def server(postgres: Postgres) -> Iterator[Postgres]:
    """The database server; it runs again after the test."""
    yield postgres
    postgres.start()


def test_a_batch_is_held_while_the_database_is_away(stage: Stage, server: Postgres) -> None:
    """The worker lives on and says why it waits; afterwards every effect happened once."""
    pid, ends = stage.fleet.pid("worker-1"), stage.ends()
    first, second = stage.keys(200), stage.keys(50)
    stage.topics.send(stage.messages(first))
    server.stop("fast")
    stage.topics.send(stage.messages(second))
    wait_until(lambda: stage.state() == HELD, timeout_s=60, what="a held batch")
    wait_until(lambda: stage.status().get("ready"), timeout_s=60, what="it is ready all the same")
    server.start()
    stage.assert_once(first + second)
    wait_until(lambda: stage.state() == ("idle", ""), timeout_s=60, what="nothing is held")
    assert (stage.fleet.pid("worker-1"), stage.ends()) == (pid, ends)


def test_a_rebalance_abandons_a_held_batch(whole_path: Stage, server: Postgres) -> None:
    """Two workers hold their batches; one is told to stop, the other takes over its partitions;
    neither finishes what it began, and nothing is lost or doubled."""
    stage = whole_path
    stage.fleet.start("worker-2")
    stage.ready("worker-2")
    stage.ready()
    for worker in ("worker-1", "worker-2"):
        wait_until(
            lambda worker=worker: stage.consumer(worker).get("partitions"),  # type: ignore[misc]
            timeout_s=60,
            what=f"{worker} has partitions",
        )
    server.stop("fast")
    keys = stage.keys(200)
    stage.topics.send(stage.messages(keys))
    for worker in ("worker-1", "worker-2"):
        wait_until(
            lambda worker=worker: stage.state(worker) == HELD,  # type: ignore[misc]
            timeout_s=60,
            what=f"{worker} holds its batch",
        )
    epoch = wait_until(lambda: stage.status().get("epoch"), timeout_s=60, what="its epoch")
    ended = stage.fleet.stop("worker-2", grace_s=60)
    assert ended.code == 0, "a held worker stops in good order"
    wait_until(
        lambda: ((said := stage.status()).get("epoch") or 0) > epoch and said.get("ready"),
        timeout_s=60,
        what="a new assignment",
    )
    wait_until(
        lambda: stage.status().get("guard", {}).get("abandoned", 0) >= 1,
        timeout_s=60,
        what="a batch was abandoned",
    )
    server.start()
    stage.assert_once(keys)
    assert stage.fleet.exit_of(stage.fleet.pid("worker-1")) is None


def test_a_worker_killed_while_holding_leaves_its_batch(
    whole_path: Stage, server: Postgres
) -> None:
    """A worker that dies on a held batch, and starts while the database is still away, loses
    nothing: its successor waits for PostgreSQL and takes the batch up."""
    stage = whole_path
    keys = stage.keys(100)
    server.stop("immediate")
    stage.topics.send(stage.messages(keys))
    wait_until(lambda: stage.state() == HELD, timeout_s=60, what="a held batch")
    pid = stage.fleet.signal("worker-1", signal.SIGKILL)
    assert stage.fleet.wait_restarted("worker-1", pid, 60)
    wait_until(
        lambda: stage.status().get("waiting_for") == "PostgreSQL",
        timeout_s=60,
        what="the successor waits for PostgreSQL",
    )
    server.start()
    stage.assert_once(keys)
