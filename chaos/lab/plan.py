"""What a lab consists of: its files, its parts, and the settings its workers get.

The plan is written by `symphony up` and read by the supervisor, so a running lab never changes
because a settings file did.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from app.roles import ROLES
from chaos.lab.addresses import endpoint_of
from chaos.lab.process import LabError
from chaos.observe.plan import Observe

DEFAULT_WORKERS: Mapping[str, int] = {
    "web": 1,
    "relay": 1,
    "orchestrator": 1,
    "payment": 1,
    "inventory": 1,
    "shipping": 1,
    "notification": 1,
    "dlq": 1,
    "slo": 1,
}
WORKERS_MAX = 32
_SOCKET_PATH_MAX = 100  # the kernel allows 107 bytes
_MEGABYTE = 1024 * 1024

Kind = Literal["embedded", "external"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All that the supervisor needs to know. Ports that are 0 are chosen free."""

    lab_dir: Path
    cwd: Path
    workers: dict[str, int]
    broker_kind: Kind = "embedded"
    bootstrap: str = ""
    broker_port: int = 0
    postgres_kind: Kind = "embedded"
    dsn: str = ""
    postgres_port: int = 0
    gateway_port: int = 0
    web_port: int = 0
    proxy: bool = False
    proxy_port: int = 0
    proxy_seed: int | None = None
    observe: Observe | None = None
    namespace: str = "symphony"
    topic_partitions: int = 4
    stop_grace_s: float = 12.0
    restart_backoff_max_s: float = 5.0
    ready_timeout_s: float = 180.0
    disk_max_mb: int = 4096
    environment: dict[str, str] = {}
    worker_command: list[str] = []

    def save(self) -> None:
        """Write the plan into its lab; readable by the owner only, because of the DSN."""
        self.files.logs.mkdir(parents=True, exist_ok=True)
        self.files.plan.touch(mode=0o600)
        self.files.plan.write_bytes(msgspec.json.encode(self, enc_hook=str))

    @classmethod
    def load(cls, lab_dir: Path) -> Plan:
        """The plan that was saved in `lab_dir`."""
        content = LabFiles(lab_dir).plan.read_bytes()
        return msgspec.json.decode(content, type=cls, dec_hook=lambda kind, text: kind(text))

    @property
    def files(self) -> LabFiles:
        """Where this lab keeps what."""
        return LabFiles(self.lab_dir)

    def command(self, role: str) -> list[str]:
        """The command line of a worker of `role`."""
        return [*(self.worker_command or [sys.executable, "-P", "-m", "app.cli", "worker"]), role]

    def check_workers(self, role: str, count: int) -> None:
        """Raise LabError when `count` workers of `role` make no sense."""
        if role not in ROLES:
            raise LabError(f"unknown role {role!r}; known roles: {', '.join(ROLES)}")
        if not 0 <= count <= WORKERS_MAX:
            raise LabError(f"{role}={count}: between 0 and {WORKERS_MAX} workers are possible")
        if ROLES[role].consumes and count > self.topic_partitions:
            raise LabError(
                f"{role}={count}: the topics have {self.topic_partitions} partitions, a worker"
                " beyond that would get none; the count is fixed when topics are created"
            )

    def check_proxy(self) -> None:
        """Raise LabError when a proxy is wanted that clients would go around."""
        if not self.proxy:
            return
        if self.broker_kind == "external":
            raise LabError(
                "--proxy needs the embedded broker: clients follow the address that an external"
                " broker advertises, and would leave the proxy"
            )
        if self.postgres_kind == "external":
            endpoint_of(self.dsn)


class LabFiles:
    """The paths below a lab's directory."""

    def __init__(self, lab_dir: Path) -> None:
        self.root = lab_dir.absolute()
        self.broker = self.root / "broker"
        self.postgres = self.root / "postgres"
        self.gateway_ledger = self.root / "gateway" / "ledger.jsonl"
        self.notifications = self.root / "notifications" / "sent.jsonl"
        self.proxies = self.root / "proxy" / "proxies.json"
        self.observe = self.root / "observe"
        self.targets = self.observe / "targets.json"
        self.data = self.root / "data"
        self.logs = self.root / "logs"
        self.traces = self.root / "traces"
        self.run = self.root / "run"
        self.plan = self.root / "plan.json"
        self.lock = self.root / "lock"
        self.failure = self.root / "failure.txt"
        self.supervisor_log = self.logs / "supervisor.log"
        self.socket = self.root / "control.sock"

    def log_of(self, name: str) -> Path:
        """The log of a part; servers write beside their data."""
        special = {
            "broker": self.broker / "broker.log",
            "postgres": self.postgres / "postgres.log",
        }
        return special.get(name, self.logs / f"{name}.log")

    @contextmanager
    def socket_address(self) -> Iterator[str]:
        """The control socket's path in a form the kernel takes, however deep the lab lies.

        Raises LabError where only a shorter path would do.
        """
        path = str(self.socket)
        if len(os.fsencode(path)) <= _SOCKET_PATH_MAX:
            yield path
            return
        if sys.platform != "linux":
            raise LabError(f"the lab's path is too long for a socket: {path}; use --lab-dir")
        directory = os.open(self.root, os.O_PATH | os.O_DIRECTORY)
        try:
            yield f"/proc/self/fd/{directory}/{self.socket.name}"
        finally:
            os.close(directory)

    def connect(self, timeout_s: float) -> socket.socket:
        """A connection to the supervisor. Raises LabError when none listens."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout_s)
        try:
            with self.socket_address() as address:
                connection.connect(address)
        except OSError:
            connection.close()
            raise LabError(f"no lab runs in {self.root}: start one with `symphony up`") from None
        return connection

    def used_mb(self) -> float:
        """What all files of the lab take on disk, in MB (2**20 bytes)."""
        places = [self.root]
        outside = self.postgres / "data"
        if outside.is_symlink():
            places.append(outside.resolve())
        return sum(_used_bytes(place) for place in places) / _MEGABYTE

    def check_disk(self, max_mb: int) -> None:
        """Raise LabError when the lab's files take more than `max_mb`."""
        used = self.used_mb()
        if used > max_mb:
            raise LabError(
                f"the files in {self.root} take {used:.0f} MB, more than lab_disk_max_mb ="
                f" {max_mb}: remove them with `symphony down --purge`, or raise the setting"
            )

    def purge(self) -> None:
        """Remove all files of the lab, PostgreSQL's outside ones included."""
        outside = self.postgres / "data"
        if outside.is_symlink():
            shutil.rmtree(outside.resolve().parent, ignore_errors=True)
        if self.root.exists():
            shutil.rmtree(self.root)


def _used_bytes(directory: Path) -> int:
    """Disk blocks in use below `directory`; files that vanish meanwhile count nothing."""
    total = 0
    pending = [os.fspath(directory)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
        except FileNotFoundError:
            continue
    return total
