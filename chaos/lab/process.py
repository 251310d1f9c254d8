"""Child processes that cannot outlive their parent, and the facts about processes a lab needs.

Guarantees: a child started by `spawn` receives SIGKILL when the process that started it ends, in
whatever way (Linux, PR_SET_PDEATHSIG). Elsewhere, and for the instant before the kernel knows, the
pid files of `ProcessRecord` let the next start sweep what was left behind.
Does not guarantee anything about grandchildren: commands are executed directly, never by a shell.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from app.errors import SymphonyError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

HOST = "127.0.0.1"
# Below the ephemeral ports of Linux (32768-) and of macOS (49152-): a port of ours is never taken
# as the source port of somebody's connection while its server is down.
_PORTS = (20_000, 32_000)
_PR_SET_PDEATHSIG = 1
_SWEEP_S = 10.0

_given: set[int] = set()
_giving = threading.Lock()

# The parent-death signal is bound to the *thread* that started the child, so one thread which lives
# as long as this process starts them all, whoever asks.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lab-spawner")


class LabError(SymphonyError):
    """The lab cannot do what was asked; `detail`, its text, says what to do about it."""

    code = "lab"
    doc = "The lab cannot do what was asked; the message says what to do."

    def __str__(self) -> str:
        return self.detail


def spawn(
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: tuple[int, int] | None = None,
) -> subprocess.Popen[bytes]:
    """Start `argv` in its own session, output appended to `log`; it dies with this process.

    `user` is a (uid, gid) to run as, which needs root and `setpriv` (util-linux).
    Raises LabError when the program cannot be executed.
    """
    command = list(argv)
    before_exec: Callable[[], None] | None = None
    if user is not None or (sys.platform == "linux" and shutil.which("setpriv")):
        command = [*_setpriv(user), *command]
    elif sys.platform == "linux":
        before_exec = _die_with_parent()
    log.parent.mkdir(parents=True, exist_ok=True)

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env) if env is not None else None,
                cwd=cwd,
                start_new_session=True,
                preexec_fn=before_exec,  # noqa: PLW1509 (only without setpriv; calls one C function)
            )

    try:
        return _spawner.submit(start).result()
    except OSError as error:
        raise LabError(f"cannot start {argv[0]}: {error.strerror or error}") from error


def _setpriv(user: tuple[int, int] | None) -> list[str]:
    """The setpriv prefix: the parent-death signal must be set after the change of user."""
    program = shutil.which("setpriv")
    if program is None:
        raise LabError(
            "this lab runs as root, and PostgreSQL refuses root: install util-linux (setpriv),"
            " or run as an ordinary user"
        )
    prefix = [program, "--pdeathsig", "KILL"]
    if user is not None:
        prefix += ["--reuid", str(user[0]), "--regid", str(user[1]), "--clear-groups"]
    return [*prefix, "--"]


def _die_with_parent() -> Callable[[], None]:
    """A pre-exec hook that asks the kernel for SIGKILL at the parent's death."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return ask


def reap(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Wait until `process` has ended and been reaped; False when `timeout_s` passed first."""
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def terminate(process: subprocess.Popen[bytes], sig: signal.Signals, grace_s: float) -> bool:
    """Send `sig`, wake a stopped process, SIGKILL after `grace_s`; True when grace sufficed."""
    if process.poll() is not None:
        return True
    process.send_signal(sig)
    process.send_signal(signal.SIGCONT)
    if reap(process, grace_s):
        return True
    process.kill()
    process.wait()
    return False


def free_port() -> int:
    """A TCP port of 127.0.0.1 nobody listens on now, outside the ephemeral range.

    It is given once, and while this process lives to no other process of this user that asks here:
    its server may bind it late. Anybody else may still take it first: servers report that as
    `port_taken`.
    """
    with _giving:
        for _ in range(200):
            port = random.randrange(*_PORTS)
            if port not in _given and not port_in_use(port) and _claim(port):
                _given.add(port)
                return port
    raise LabError(f"no free port between {_PORTS[0]} and {_PORTS[1]} on {HOST}")


def _claim(port: int) -> bool:
    """Keep other processes from `port` until this one ends; False when another one does so."""
    file = _claims()
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


@cache
def _claims() -> int:
    """A file whose byte N is locked by the process that was given port N.

    Record locks, because they belong to the process: no child inherits them, and one descriptor
    is enough. It stays open, for closing it would let all of them go.
    """
    path = Path(tempfile.gettempdir()) / f"symphony-ports-{os.geteuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def port_in_use(port: int) -> bool:
    """True when a server could not listen on `port` of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def port_taken(port: int, what: str, option: str) -> LabError:
    """The error for a port that `what` needs and another process holds, naming that process."""
    holder = ""
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                if connection.pid:
                    name = psutil.Process(connection.pid).name()
                    holder = f" by {name} (pid {connection.pid})"
                break
    return LabError(
        f"port {port} of {HOST}, wanted for {what}, is already taken{holder}:"
        f" end that process or choose another port with {option}"
    )


def tail(path: Path, lines: int = 15) -> str:
    """The last `lines` lines of a log file, or an empty text when there is none."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 64 * 1024))
        text = file.read().decode(errors="replace")
    return "\n".join(text.splitlines()[-lines:])


@dataclass(frozen=True)
class ProcessRecord:
    """A started process as written to disk: pid and start time together are unique."""

    name: str
    pid: int
    started_at: float  # seconds since the epoch, as the kernel tells it

    @classmethod
    def of(cls, name: str, pid: int) -> ProcessRecord | None:
        """The record of a live process, or None when it has already ended."""
        try:
            return cls(name, pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return None

    def write(self, directory: Path) -> None:
        """Store the record as NAME.json in `directory`."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{self.name}.json").write_text(json.dumps(asdict(self)))

    def alive(self) -> bool:
        """True when exactly this process, not a later one with its pid, still runs."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started_at) < 0.1
            return bool(same and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False


def sweep(directory: Path) -> list[str]:
    """SIGKILL every process recorded in `directory` that still runs; their names, in file order.

    Raises LabError when one does not go within 10 s. The records are removed.
    """
    left: list[ProcessRecord] = []
    for file in sorted(directory.glob("*.json")) if directory.exists() else []:
        with contextlib.suppress(ValueError, TypeError):
            record = ProcessRecord(**json.loads(file.read_text()))
            if record.alive():
                os.kill(record.pid, signal.SIGKILL)
                left.append(record)
        file.unlink(missing_ok=True)
    deadline = time.monotonic() + _SWEEP_S
    for record in left:
        while record.alive():
            if time.monotonic() > deadline:
                raise LabError(f"{record.name} (pid {record.pid}) of an earlier lab does not end")
            time.sleep(0.02)
    return [record.name for record in left]
