"""Our delivery core on trial: role `probe`, its topics, its effects in PostgreSQL."""

from __future__ import annotations

import sys
import uuid
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg2

from chaos.ledger.events import Numbered
from chaos.ledger.subject import PARTITIONS, Effects, Launch, TopicPlan, environment, key_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from chaos.ledger.group import Partition
    from chaos.ledger.trial import Limits

INPUT, MIDDLE = "probe.in", "probe.out"
WITNESS = "chaos.ledger.witness"
WORKER = "from app import settings, worker; worker.run(settings.load_settings())"

_TABLE = """
    CREATE TABLE IF NOT EXISTS ops.probe_effect (
        stage smallint NOT NULL, seq bigint NOT NULL, worker text NOT NULL,
        partition int NOT NULL, "offset" bigint NOT NULL, had_state boolean NOT NULL,
        at timestamptz NOT NULL DEFAULT now());
    CREATE INDEX IF NOT EXISTS probe_effect_seq ON ops.probe_effect (seq);
    CREATE INDEX IF NOT EXISTS probe_effect_at ON ops.probe_effect (at);
"""
_COUNTS = """
    SELECT seq, count(*), count(*) FILTER (WHERE NOT had_state)
      FROM ops.probe_effect WHERE stage = %s GROUP BY seq
"""
_FINISHED = "SELECT count(*) FROM ops.probe_effect WHERE stage = 2"
_FIRST_SINCE = """
    SELECT stage, partition, extract(epoch FROM min(at)) FROM ops.probe_effect
     WHERE at > to_timestamp(%s) GROUP BY stage, partition
"""


class ProbeSubject:
    """The core; `settings` are environment names without prefix that a run changes."""

    effects_once = True
    final_state = b"2:2"
    input_topic, middle_topic = INPUT, MIDDLE
    partitions = PARTITIONS

    def __init__(
        self,
        bootstrap: str,
        dsn: str,
        directory: Path,
        limits: Limits,
        *,
        plugins: tuple[str, ...],
        settings: Mapping[str, str],
    ) -> None:
        self.name = "probe"
        self.namespace = "ledger"
        self.group = f"{self.namespace}-probe"
        self.changelog_topic = f"{self.group}-probe-changelog"
        self._directory = directory
        self._read_to: dict[Path, int] = {}
        self._deliveries: dict[str, Counter[int]] = {INPUT: Counter(), MIDDLE: Counter()}
        self._connection = psycopg2.connect(dsn)
        self._connection.autocommit = True
        with self._connection.cursor() as cursor:
            cursor.execute(_TABLE)
        self._settings = {
            "NAMESPACE": self.namespace,
            "ROLE": "probe",
            "LAB": "true",
            "PLUGINS": ",".join((WITNESS, *plugins)),
            "DATA_DIR": str(directory),
            "BROKER_BOOTSTRAP": bootstrap,
            "POSTGRES_DSN": dsn,
            "TOPIC_PARTITIONS": str(PARTITIONS),
            "SESSION_TIMEOUT_S": f"{limits.session_timeout_s:g}",
            "REBALANCE_TIMEOUT_S": f"{limits.rebalance_timeout_s:g}",
            **settings,
        }

    def topics(self) -> list[TopicPlan]:
        """Input, middle, dead letters, and the changelogs of both tables."""
        compact = {"cleanup.policy": "compact"}
        plain = [INPUT, MIDDLE, f"{INPUT}.dlt", f"{MIDDLE}.dlt"]
        changelogs = [self.changelog_topic, f"{self.group}-probe_idempotency-changelog"]
        return [
            *(TopicPlan(name, self.partitions, {}) for name in plain),
            *(TopicPlan(name, self.partitions, compact) for name in changelogs),
        ]

    def launch(self, worker: str, incarnation: int) -> Launch:
        """A worker of role probe, as `symphony worker probe` starts it."""
        own = {"WORKER_ID": worker, "INCARNATION": f"{worker}-{incarnation}"}
        variables = {f"SYMPHONY_{name}": value for name, value in {**self._settings, **own}.items()}
        command = (sys.executable, "-c", WORKER)
        return Launch(command, {**environment(), **variables}, f"{worker}.{worker}-{incarnation}")

    def encode(self, seq: int) -> Numbered:
        """A CloudEvent of type probe.in.v1."""
        headers = [
            ("ce_specversion", b"1.0"),
            ("ce_id", str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.namespace}:{seq}")).encode()),
            ("ce_source", b"/ledger"),
            ("ce_type", b"probe.in.v1"),
            ("content-type", b"application/json"),
        ]
        return Numbered(key_of(seq), b'{"seq":"%d"}' % seq, headers)

    def stage(self, number: int) -> Effects:
        """Effects from PostgreSQL, deliveries from the witness's files."""
        self._read_deliveries()
        with self._connection.cursor() as cursor:
            cursor.execute(_COUNTS, (number,))
            rows = cursor.fetchall()
        return Effects(
            effects=Counter({seq: count for seq, count, _ in rows}),
            deliveries=self._deliveries[INPUT if number == 1 else MIDDLE],
            without_state=sum(without for _, _, without in rows) if number == 2 else 0,
        )

    def finished(self) -> int:
        """Stage-2 effects."""
        with self._connection.cursor() as cursor:
            cursor.execute(_FINISHED)
            row = cursor.fetchone()
        return int(row[0]) if row else 0

    def first_effects(self, since_s: float) -> dict[Partition, float]:
        """First effect per input partition after Unix time `since_s`, as Unix time in seconds."""
        with self._connection.cursor() as cursor:
            cursor.execute(_FIRST_SINCE, (since_s,))
            rows = cursor.fetchall()
        return {(INPUT if stage == 1 else MIDDLE, p): float(at_s) for stage, p, at_s in rows}

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _read_deliveries(self) -> None:
        for path in sorted(self._directory.glob("deliveries-*")):
            with path.open("rb") as file:
                file.seek(self._read_to.get(path, 0))
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._read_to[path] = self._read_to.get(path, 0) + len(whole)
            for line in whole.splitlines():
                topic, _, _, seq = line.split()
                self._deliveries[topic.decode()][int(seq)] += 1


def create_database(dsn: str, server_dsn: str, name: str) -> None:
    """Create and migrate the run's database. Raises psycopg2.Error when it exists."""
    from app.db.migrate import upgrade

    with closing(psycopg2.connect(server_dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{name}"')
    upgrade(dsn)
