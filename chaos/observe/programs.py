"""The programs of Prometheus and Alertmanager: where they are, and how to get them.

They are optional and no Python packages. Looked for in this order: the directory of the setting
`observe_bin_dir`, PATH, then what `make observe` unpacked below the interpreter. A program of
another name that answers is not taken for one: its version is asked for first.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

from app.settings import load_settings
from chaos.lab.process import LabError

VERSION_S = 20.0


class Program(NamedTuple):
    """One program: its Debian package, the oldest version that will do, names it goes by."""

    package: str
    oldest: tuple[int, int]
    also: str = ""
    says: str = ""


PROGRAMS: dict[str, Program] = {
    "prometheus": Program("prometheus", (2, 40)),
    "promtool": Program("prometheus", (2, 40)),
    "prometheus-alertmanager": Program(
        "prometheus-alertmanager", (0, 22), also="alertmanager", says="alertmanager"
    ),
    "amtool": Program("prometheus-alertmanager", (0, 22)),
}
"""What can be found, by Debian's name; upstream calls the third one `alertmanager`."""

HOW = (
    "Debian, Ubuntu: `make observe` (needs no root) or `apt install prometheus"
    " prometheus-alertmanager`; elsewhere unpack the releases of prometheus.io and name their"
    " directory in the setting observe_bin_dir"
)


class NotInstalled(LabError):
    """A program that was asked for is not on this machine; the text says how to get it."""

    code = "not_installed"
    doc = "An optional program of the laboratory is not installed; the message says how to get it."


def unpacked() -> Path:
    """Where `make observe` puts the programs."""
    return Path(sys.prefix) / "share" / "observe" / "bin"


def find(name: str) -> Path:
    """The program `name` (a key of PROGRAMS), new enough and able to run here.

    Raises NotInstalled with what was looked at and how to get it.
    """
    program = PROGRAMS[name]
    seen = []
    for candidate in _candidates(name, program):
        version = version_of(candidate, program.says or name)
        if version is not None and version >= program.oldest:
            return candidate
        seen.append(f"{candidate} is {_words(version) if version else 'not usable'}")
    oldest = _words(program.oldest)
    raise NotInstalled(f"no {name} >= {oldest} ({'; '.join(seen) or 'none was found'}): {HOW}")


@cache
def version_of(program: Path, name: str) -> tuple[int, int] | None:
    """Major and minor version that `program --version` reports for `name`; None when it does not.

    Prometheus' programs print it on standard output or on standard error.
    """
    try:
        answer = subprocess.run(
            [program, "--version"],
            capture_output=True,
            text=True,
            timeout=VERSION_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    said = rf"^{re.escape(name)}, version (\d+)\.(\d+)"
    match = re.search(said, answer.stdout + answer.stderr, re.MULTILINE)
    return (int(match[1]), int(match[2])) if match else None


def observable() -> bool:
    """Whether a lab on this machine can have Prometheus and Alertmanager."""
    try:
        find("prometheus"), find("promtool"), find("prometheus-alertmanager")
    except NotInstalled:
        return False
    return True


def described(*names: str) -> str:
    """The programs with their versions, for people. Raises NotInstalled for the first missing."""
    found = [(find(name), PROGRAMS[name].says or name) for name in names]
    return ", ".join(f"{path} (version {_words(version_of(path, says))})" for path, says in found)


def _candidates(name: str, program: Program) -> list[Path]:
    """Existing files to try, best first."""
    names = [name, *([program.also] if program.also else [])]
    configured = load_settings().observe_bin_dir
    places = [Path(configured)] if configured else []
    found = [place / one for place in places for one in names]
    found += [Path(path) for one in names if (path := shutil.which(one))]
    found += [unpacked() / one for one in names]
    return [path for path in dict.fromkeys(found) if path.is_file()]


def _words(version: tuple[int, int] | None) -> str:
    return ".".join(str(part) for part in version or ())
