"""The whole platform in a lab of its own, and the facts a fault test needs about it."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psutil
import psycopg2
from prometheus_client.parser import text_string_to_metric_families

from app.roles import ROLES
from chaos import records
from chaos.audit import Audited, run_audit
from chaos.console.api import Api
from chaos.demo.story import empty_classes
from chaos.lab.client import Lab
from chaos.lab.plan import LabFiles
from chaos.lab.process import tail
from chaos.ledger.group import GroupWatch
from chaos.records import Record
from chaos.workload.target import target_of
from chaos.workload.traffic import Traffic
from tests.waiting import wait_until

#: Generous: what a quiet machine does in seconds, a busy one does in this.
PATIENCE_S = 120.0
REST_DEADLINE_S = 150.0
PARTITIONS = 4


class Answer(NamedTuple):
    """What the API said."""

    status: int
    retry_after: str
    body: dict[str, Any]


class Platform:
    """A running lab with all roles. Everything here is read from outside the workers."""

    def __init__(self, lab: Lab, rate_per_s: float) -> None:
        self.lab = lab
        self.target = target_of(lab)
        self._rate_per_s = rate_per_s
        self.dead_letters = 0
        self.outcomes: dict[tuple[str, str], int] = {}

    def traffic(self, seed: int, rate_per_s: float | None = None) -> Traffic:
        """Orders of every class; enter it to begin."""
        return Traffic(self.target, rate_per_s=rate_per_s or self._rate_per_s, seed=seed)

    def settle(self, traffic: Traffic, *, dead_letters: int = 0) -> Audited:
        """Wait for rest, then every book must agree, every class have ended as it must, no worker
        be left with work, and exactly `dead_letters` new records have been dead-lettered.
        """
        traffic.stop()
        done = run_audit(self.target, self.target.ledgers(), deadline_s=REST_DEADLINE_S)
        if done.exit_code != 0:
            log = LabFiles(self.target.lab_dir).postgres / "postgres.log"
            raise AssertionError(f"{done.text}\n{done.sentence}\nPostgreSQL's log:\n{tail(log)}")
        new = {end: count - self.outcomes.get(end, 0) for end, count in done.outcomes.items()}
        self.outcomes = done.outcomes
        assert empty_classes(new) == [], new
        assert self.letters(done) == self.dead_letters + dead_letters, done.text
        self.dead_letters += dead_letters
        wait_until(lambda: not self.unfinished(), timeout_s=PATIENCE_S, what=_Told(self.unfinished))
        return done

    @staticmethod
    def letters(done: Audited) -> int:
        """How many dead letters there are."""
        return int(done.document["dead_letters"])

    def unfinished(self) -> list[str]:
        """Whatever keeps this from being at rest: a worker not ready, a partition that nobody or
        more than one worker owns, a record nobody has processed or whose offset is not committed.
        """
        found: list[str] = []
        owners: dict[tuple[str, str, int], list[str]] = {}
        status = self.lab.status(delivery=True)["processes"]
        rows = [row for row in status if row["state"] != "stopped"]
        for row in rows:
            name, delivery = row["name"], row.get("delivery") or {}
            if row["state"] != "ready" or (row["role"] in ROLES and not delivery.get("ready")):
                found.append(f"{name} is {row['state']}: {row['reason'] or row['last_exit']}")
            for consumer, part in _partitions(row):
                owners.setdefault((consumer, part["topic"], part["partition"]), []).append(name)
                if part["lag_records"] != 0 or max(0, part["committed"]) != part["watermark"]:
                    found.append(f"{name}, {consumer}: {part}")
        found += [f"{place} is owned by {who}" for place, who in owners.items() if len(who) > 1]
        found += [
            f"nobody owns {topic}[{number}] of {consumer}"
            for consumer, topic in {(consumer, topic) for consumer, topic, _ in owners}
            for number in range(PARTITIONS)
            if (consumer, topic, number) not in owners
        ]
        busy = {name.rpartition("-")[0] for who in owners.values() for name in who}
        idle = {row["role"] for row in rows} & {r for r in ROLES if ROLES[r].consumes} - busy
        return found + [f"role {role} owns nothing" for role in idle]

    def owned(self, worker: str) -> set[tuple[str, int]]:
        """The partitions that a worker says it owns; empty when it does not answer."""
        rows = self.lab.status(delivery=True)["processes"]
        return {
            (part["topic"], part["partition"])
            for row in rows
            if row["name"] == worker
            for _, part in _partitions(row)
        }

    def client_ids(self, role: str) -> set[str]:
        """The Kafka client ids of the present incarnations of a role."""
        rows = [row for row in self.lab.status()["processes"] if row["role"] == role]
        return {f"{row['name']}.{row['incarnation']}" for row in rows if row["pid"]}

    def pid(self, name: str) -> int:
        """The pid of a running part."""
        return int(self.lab.process(name)["pid"])

    def kill_and_see(self, name: str) -> dict[str, Any]:
        """kill -9; returns the row of the successor once the old process is gone and it serves."""
        before = self.lab.process(name)
        old = self.lab.kill(name)
        wait_gone(old)
        row = self.lab.wait_restarted(name, old, PATIENCE_S)
        assert row["restarts"] > before["restarts"]
        assert row["last_exit"] == "was ended by SIGKILL"
        return row

    def order(self) -> Answer:
        """Place one order with the API and return its answer, whatever it is."""
        body = json.dumps({"customerId": "prober", "total": "12.50", "currency": "EUR"}).encode()
        request = urllib.request.Request(
            f"{self.target.url}/api/orders",
            body,
            {"Content-Type": "application/json", "Idempotency-Key": f"probe-{token_hex(8)}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return Answer(reply.status, "", json.load(reply))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers.get("Retry-After", ""), json.load(error))

    def replay(self, role: str, duration: str) -> str:
        """Have a role read again; returns the replay's id."""
        api = Api(self.target.url)
        body = {"consumerGroupId": role, "duration": duration}
        return str(api.post("/api/replay", body)["id"])

    def replayed(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """These replays once all have ended; empty before."""
        api = Api(self.target.url)
        found = [api.get(f"/api/replay/{one}") for one in ids]
        return found if all(one["status"] != "QUEUED" for one in found) else []

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a select."""
        with closing(psycopg2.connect(self.target.dsn)) as connection:
            connection.set_session(readonly=True, autocommit=True)
            with connection.cursor() as cursor:
                cursor.execute(sql, values)
                return list(cursor.fetchall())

    def metric(self, worker: str, name: str, **labels: str) -> float:
        """The sum of a metric's samples with those labels, as the worker tells it."""
        port = psutil.Process(self.pid(worker)).environ()["SYMPHONY_HEALTH_PORT"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as reply:
            families = text_string_to_metric_families(reply.read().decode())
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def count(self, sql: str, *values: Any) -> int:
        """The number that a select returns."""
        return int(self.rows(sql, *values)[0][0])

    def gateway(self, **changes: Any) -> None:
        """Change the gateway's behaviour while it runs."""
        url = self.lab.status()["gateway"]["url"]
        request = urllib.request.Request(
            f"{url}/v1/mode", json.dumps(changes).encode(), method="PUT"
        )
        with urllib.request.urlopen(request, timeout=20) as reply:
            assert reply.status == 200

    def gateway_lines(self, since: int = 0) -> list[dict[str, Any]]:
        """What the gateway has recorded, without its first `since` lines; whole lines only."""
        whole = self.target.gateway_ledger.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()[since:]]

    @contextmanager
    def group(self, role: str) -> Iterator[GroupWatch]:
        """The consumer group of a role as the broker logs it."""
        watch = GroupWatch(self.target.bootstrap, f"symphony-{role}")
        watch.start()
        try:
            yield watch
        finally:
            watch.close()

    def records(self, topics: Iterable[str]) -> list[Record]:
        """Every record of `topics` now."""
        return list(records.read(self.target.bootstrap, topics))

    def publish(self, listed: Iterable[Record]) -> int:
        """Publish records as they are, each to its partition; how many the broker has taken."""
        return len(records.publish(self.target.bootstrap, listed))


class _Told:
    """A text made when it is read, so that a failed wait shows the last state."""

    def __init__(self, facts: Any) -> None:
        self._facts = facts

    def __str__(self) -> str:
        return f"nothing is left to do: {self._facts()}"

    def __format__(self, spec: str) -> str:
        return str(self)


def _partitions(row: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Consumer and report of every partition that a process says it owns."""
    delivery = row.get("delivery") or {}
    return [
        (consumer["consumer"], part)
        for consumer in delivery.get("consumers", ())
        for part in consumer["partitions"]
    ]


def wait_gone(pid: int, timeout_s: float = 20.0) -> None:
    """Return when the process has ended."""
    wait_until(lambda: not alive(pid), timeout_s=timeout_s, what=f"pid {pid} is gone")


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def port_closed(address: str) -> bool:
    """Whether nobody listens at host:port or at the host and port of a URL."""
    parts = urlsplit(address if "//" in address else f"//{address}")
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=2).close()
    except OSError:
        return True
    return False


def processes_of(lab_dir: Path) -> list[str]:
    """Command lines of live processes that know a lab's directory; not our callers'."""
    me = psutil.Process()
    ours = {me.pid, *(parent.pid for parent in me.parents())}
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            known = " ".join([command, *process.environ().values()])
            running = process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            continue
        if running and process.pid not in ours and str(lab_dir) in known:
            found.append(command)
    return found
