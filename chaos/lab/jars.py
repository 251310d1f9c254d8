"""Apache Kafka's jars: resolved once by jgo, locked by sha256, fetched below the interpreter.

Guarantees: `fetch` leaves exactly the locked files, each verified, or raises and leaves nothing
that `directory` would accept. It does not resolve anything: `lock` (a developer's command) does.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from chaos.lab.process import LabError

if TYPE_CHECKING:
    from collections.abc import Callable

LOCK_FILE = Path(__file__).with_name("kafka.lock")
# kafka-clients is named although kafka needs it: without that an older one is chosen.
ENDPOINT = "+".join(
    (
        "org.apache.kafka:kafka_2.13:4.1.1",
        "org.apache.kafka:kafka-clients:4.1.1",
        "org.apache.logging.log4j:log4j-slf4j-impl:2.25.1",
        "org.apache.logging.log4j:log4j-core:2.25.1",
    )
)
_DOWNLOADS_AT_ONCE = 8


class Jar(NamedTuple):
    """One locked file: Maven coordinates and the sha256 of the jar."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def filename(self) -> str:
        """The name Maven gives the file."""
        return f"{self.artifact}-{self.version}.jar"


def read_lock() -> list[Jar]:
    """The locked jars, in file order."""
    jars = []
    for line in LOCK_FILE.read_text().splitlines():
        if line and not line.startswith("#"):
            sha256, coordinate = line.split()
            group, artifact, version = coordinate.split(":")
            jars.append(Jar(group, artifact, version, sha256))
    return jars


def directory() -> Path:
    """Where the jars of the current lock belong: below the interpreter's prefix."""
    digest = hashlib.sha256(LOCK_FILE.read_bytes()).hexdigest()[:12]
    return Path(sys.prefix) / "share" / "kafka" / digest


def classpath() -> str:
    """The broker's Java class path. Raises LabError when the jars were never fetched."""
    if not directory().is_dir():
        raise LabError("Apache Kafka is not installed yet: run `make setup`")
    return str(directory() / "*")


def fetch(report: Callable[[str], None] = print) -> Path:
    """Download and verify the locked jars unless they are there; returns their directory.

    Raises LabError when a file cannot be had or its sha256 differs.
    """
    target = directory()
    if target.is_dir():
        return target
    jars = read_lock()
    report(f"fetching Apache Kafka: {len(jars)} jars")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        ready = Path(scratch) / "lib"
        ready.mkdir()
        with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
            for jar, source in zip(
                jars, pool.map(lambda jar: _download(jar, Path(scratch)), jars), strict=True
            ):
                shutil.copyfile(source, ready / jar.filename)
        try:
            ready.rename(target)
        except OSError:
            if not target.is_dir():  # somebody else's fetch may have come first
                raise
    report(f"Apache Kafka is in {target}")
    return target


def _download(jar: Jar, scratch: Path) -> Path:
    """One jar from the local Maven cache or Maven Central, verified."""
    from jgo.maven import MavenContext

    local = Path(os.environ.get("M2_REPO", Path.home() / ".m2" / "repository"))
    context = MavenContext(
        repo_cache=scratch / "repository",
        local_repos=[local] if local.is_dir() else [],
        timeout=60,
    )
    component = context.project(jar.group, jar.artifact).at_version(jar.version)
    try:
        path = Path(component.artifact().resolve())
    except (RuntimeError, OSError) as error:
        raise LabError(f"cannot fetch {jar.filename} from Maven Central: {error}") from error
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != jar.sha256:
        raise LabError(f"{jar.filename} has sha256 {found}, but {LOCK_FILE.name} says {jar.sha256}")
    return path


def lock() -> None:
    """Resolve ENDPOINT anew and rewrite the lock file; `make lock` runs it."""
    import jgo

    lines = ["# Apache Kafka for the embedded lab; written by `python -m chaos.lab.jars`."]
    for artifact in sorted(jgo.resolve(ENDPOINT), key=lambda a: (a.groupId, a.artifactId)):
        digest = hashlib.sha256(Path(artifact.resolve()).read_bytes()).hexdigest()
        lines.append(f"{digest}  {artifact.groupId}:{artifact.artifactId}:{artifact.version}")
    LOCK_FILE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    lock()
