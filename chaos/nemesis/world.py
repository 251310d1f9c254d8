"""What the nemesis knows of a running lab, read anew whenever it is asked."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import psycopg2

from app.roles import ROLES
from chaos.lab.client import Lab, Row
from chaos.lab.plan import Plan
from chaos.lab.process import LabError, ProcessRecord

Partition = tuple[str, int]
CONNECT_S = 5
PARTS = ("broker", "postgres", "gateway-sim")
APPLICATION = "nemesis"


class World:
    """Addresses, processes and books of one lab. Raises LabError when it does not run."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        status = lab.status()
        self.dsn: str = status["postgres"]["dsn"]
        self.bootstrap: str = status["broker"]["bootstrap"]
        self.gateway_url: str = status["gateway"]["url"]
        self.gateway_ledger = Path(status["gateway"]["ledger"])
        self.web_url: str = status["web"]["url"]
        self.proxy: dict[str, Any] | None = status.get("proxy") or None
        self.plan = Plan.load(lab.files.root)

    def rows(self) -> list[Row]:
        """Every process as the supervisor knows it."""
        found: list[Row] = self.lab.status()["processes"]
        return found

    def workers(self, *roles: str) -> list[str]:
        """Names of workers that are meant to run, of `roles` or of all."""
        return [
            row["name"]
            for row in self.rows()
            if row["role"] in (roles or ROLES) and row["state"] not in ("stopped", "waiting")
        ]

    def roles(self) -> list[str]:
        """Roles that have a worker."""
        return sorted({role_of(name) for name in self.workers()})

    def parts(self) -> list[str]:
        """Broker, database and gateway, as far as they are the lab's own."""
        return [row["name"] for row in self.rows() if row["name"] in PARTS]

    def pid(self, name: str) -> int:
        """The pid of a running process; raises LabError when it does not run."""
        pid = self.lab.process(name)["pid"]
        if pid is None:
            raise LabError(f"{name} does not run now")
        return int(pid)

    def tree(self, name: str) -> list[ProcessRecord]:
        """A running process and all its descendants."""
        top = psutil.Process(self.pid(name))
        pids = [top.pid, *(child.pid for child in top.children(recursive=True))]
        return [record for pid in pids if (record := ProcessRecord.of(name, pid)) is not None]

    def delivery(self, worker: str) -> dict[str, Any]:
        """A worker's own status document, empty while it does not answer."""
        for row in self.lab.status(delivery=True)["processes"]:
            if row["name"] == worker:
                document: dict[str, Any] = row.get("delivery") or {}
                return document
        return {}

    def owned(self, worker: str) -> frozenset[Partition]:
        """The partitions that a worker says it owns."""
        return frozenset(
            (part["topic"], part["partition"])
            for consumer in self.delivery(worker).get("consumers", ())
            for part in consumer["partitions"]
        )

    def group(self, role: str) -> str:
        """The consumer group of a role."""
        return f"{self.plan.namespace}-{role}"

    def client_id(self, worker: str) -> str:
        """The Kafka client id of a worker's present incarnation."""
        return f"{worker}.{self.lab.process(worker)['incarnation']}"

    def tables_dir(self, worker: str) -> Path:
        """Where a worker keeps its tables."""
        return self.plan.files.data / worker

    def own_dir(self) -> Path:
        """Where the nemesis keeps its files in the lab."""
        return self.lab.files.root / "nemesis"

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of one statement on a connection of its own, as the database's owner."""
        with closing(
            psycopg2.connect(self.dsn, connect_timeout=CONNECT_S, application_name=APPLICATION)
        ) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, values)
                return list(cursor.fetchall()) if cursor.description else []


def role_of(worker: str) -> str:
    """The role of a worker's name."""
    return worker.rpartition("-")[0]
