"""A private PostgreSQL of the system's packages, for tests that stop and kill the server."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

BIN = Path("/usr/lib/postgresql/15/bin")
AS_POSTGRES = [
    *("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"),
    *("--pdeathsig", "KILL"),
]


class Postgres:
    def __init__(self, directory: Path, *, port: int | None = None) -> None:
        self.directory = directory
        self.port = port or _free_port()
        self.dsn = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if not (self.directory / "PG_VERSION").exists():
            self._initdb()
        settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"]
        options = [part for setting in settings for part in ("-c", setting)]
        command = [BIN / "postgres", "-D", self.directory, "-p", self.port, *options]
        self.process = subprocess.Popen(
            [*AS_POSTGRES, *map(str, command)], stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 20
        ready = [str(BIN / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode:
            assert time.monotonic() < deadline
            assert self.process.poll() is None
            time.sleep(0.05)

    def stop(self, mode: str = "fast") -> None:
        self._end({"fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(20)
            self.process = None

    def _initdb(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        shutil.chown(self.directory, "postgres", "postgres")
        self.directory.chmod(0o700)
        command = [BIN / "initdb", "-D", self.directory, "-A", "trust", "-U", "postgres", "-N"]
        subprocess.run([*AS_POSTGRES, *map(str, command)], check=True, stdout=subprocess.DEVNULL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
