"""`symphony doctor`: what this machine and installation have, and how to get what is missing."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from app.errors import SymphonyError
from app.settings import load_settings
from chaos.lab import jars, java, postgres
from chaos.lab.client import Lab
from chaos.lab.process import LabError, free_port
from chaos.observe.programs import described

DISK_FREE_MIN_MB = 1024
MEMORY_MIN_MB = 2048
OPTIONAL = ("prometheus", "alertmanager")
"""What only `symphony up --observe` needs."""


class Finding(NamedTuple):
    """One thing looked at, and what was found or what to do; a lab works without `optional`."""

    name: str
    ok: bool
    detail: str
    optional: bool = False


def examine(lab_dir: Path) -> list[Finding]:
    """Look at everything a lab needs; changes nothing."""
    looks: tuple[tuple[str, Callable[[], str]], ...] = (
        ("python", _python),
        ("packages", _packages),
        ("settings", _settings),
        (
            "java",
            lambda: f"{java.find_java()} (version {java.java_version(str(java.find_java()))})",
        ),
        ("kafka", lambda: str(jars.classpath())),
        ("postgresql", _postgres),
        ("orphan guard", _orphan_guard),
        ("ports", lambda: f"free ones on 127.0.0.1, e.g. {free_port()}"),
        ("memory", _memory),
        ("disk", lambda: _disk(lab_dir)),
        ("lab", lambda: _lab(lab_dir)),
        ("prometheus", lambda: described("prometheus", "promtool")),
        ("alertmanager", lambda: described("prometheus-alertmanager", "amtool")),
    )
    findings = []
    for name, look in looks:
        optional = name in OPTIONAL
        try:
            findings.append(Finding(name, True, look(), optional))
        except SymphonyError as error:
            findings.append(Finding(name, False, error.detail, optional))
    return findings


def _python() -> str:
    return f"{sys.version.split()[0]} in {sys.prefix}"


def _packages() -> str:
    try:
        return f"chaos-symphony {version('chaos-symphony')}"
    except PackageNotFoundError:
        raise LabError("chaos-symphony is not installed here: run `make setup`") from None


def _settings() -> str:
    return f"valid, profile {load_settings().profile}"


def _postgres() -> str:
    found = postgres.version()
    if os.geteuid() == 0:
        return f"{found}; as root it runs as another user"
    return found


def _orphan_guard() -> str:
    if sys.platform != "linux":
        return "pid files only: leftovers of a killed lab are ended by the next `symphony up`"
    if shutil.which("setpriv") is None and os.geteuid() == 0:
        raise LabError("root needs setpriv: install util-linux")
    return "the kernel ends all processes of a killed lab"


def _memory() -> str:
    import psutil

    available_mb = psutil.virtual_memory().available // 2**20
    if available_mb < MEMORY_MIN_MB:
        raise LabError(f"{available_mb} MB available, a lab takes up to {MEMORY_MIN_MB}: free some")
    return f"{available_mb} MB available"


def _disk(lab_dir: Path) -> str:
    place = next(p for p in (lab_dir.absolute(), *lab_dir.absolute().parents) if p.exists())
    free_mb = shutil.disk_usage(place).free // 2**20
    if free_mb < DISK_FREE_MIN_MB:
        raise LabError(f"{free_mb} MB free at {place}: free some, or use another --lab-dir")
    return f"{free_mb} MB free at {place}"


def _lab(lab_dir: Path) -> str:
    lab = Lab(lab_dir)
    if not lab.running():
        return f"none runs in {lab.files.root}"
    status = lab.status()
    if status["problems"]:
        raise LabError("; ".join(status["problems"]))
    return f"{status['state']} in {status['lab_dir']}, web {status['web']['url']}"
