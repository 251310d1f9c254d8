"""Where the running lab is, from `symphony status --json`, with errors people can act on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from app.settings import load_settings

STATUS_TIMEOUT_S = 30.0
LEDGER_DIR = "ledgers"


class NoLabError(Exception):
    """There is no lab to talk to; the text says what to do."""


class Process(msgspec.Struct, frozen=True):
    """One process of the lab; `pid` None while it does not run, `state` as the supervisor says."""

    name: str
    role: str = ""
    pid: int | None = None
    state: str = ""
    restarts: int = 0


class Target(NamedTuple):
    """The addresses of a running lab and its processes."""

    url: str
    bootstrap: str
    dsn: str
    gateway_ledger: Path
    lab_dir: Path
    processes: tuple[Process, ...]

    def process(self, name: str) -> Process | None:
        """Return the process called `name`, else the first of that role, else None."""
        named = [p for p in self.processes if p.name == name]
        return next(iter(named + [p for p in self.processes if p.role == name]), None)


def ledgers_of(target: Target) -> list[Path]:
    """Return the ledgers of all loads of this lab, oldest first."""
    return sorted((target.lab_dir / LEDGER_DIR).glob("*.jsonl"))


def symphony() -> list[str]:
    """Return the command line that starts `symphony` of this installation."""
    script = Path(sys.executable).parent / "symphony"
    return [str(script)] if script.exists() else [sys.executable, "-m", "app.cli"]


def running_lab(lab_dir: Path | None = None) -> Target:
    """Return the lab of `lab_dir` (default: the setting's). Raises NoLabError when none runs."""
    directory = (lab_dir or load_settings().lab_dir).absolute()
    environment = {**os.environ, "SYMPHONY_LAB_DIR": str(directory)}
    try:
        done = subprocess.run(
            [*symphony(), "status", "--json"],
            check=False,
            capture_output=True,
            timeout=STATUS_TIMEOUT_S,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise NoLabError(f"`symphony status` did not answer in {STATUS_TIMEOUT_S:g} s") from None
    if done.returncode != 0 or not done.stdout.strip():
        raise NoLabError("no lab is running here: start one with `symphony up`")
    return parse(done.stdout, directory)


def parse(raw: bytes, lab_dir: Path) -> Target:
    """Return the target of a status document; raises NoLabError when it has no addresses."""
    try:
        document: dict[str, Any] = msgspec.json.decode(raw, type=dict[str, Any])
        return Target(
            url=str(document["web"]["url"]),
            bootstrap=str(document["broker"]["bootstrap"]),
            dsn=str(document["postgres"]["dsn"]),
            gateway_ledger=Path(document["gateway"]["ledger"]),
            lab_dir=lab_dir,
            processes=tuple(msgspec.convert(document["processes"], list[Process])),
        )
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise NoLabError(
            f"the lab's status cannot be read ({error}); is it still starting?"
        ) from None
