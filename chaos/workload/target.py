"""Where the running lab is: its addresses for a load, its ledgers for an audit."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from app.settings import load_settings
from chaos.lab.client import Lab
from chaos.lab.plan import LabFiles

LEDGER_DIR = "ledgers"
NEMESIS_LEDGER = "nemesis.jsonl"


class Target(NamedTuple):
    """The addresses of a running lab and where its files are."""

    url: str
    bootstrap: str
    dsn: str
    gateway_ledger: Path
    lab_dir: Path

    @property
    def ledger_dir(self) -> Path:
        """Where the ledgers of this lab's clients are."""
        return self.lab_dir / LEDGER_DIR

    @property
    def nemesis_ledger(self) -> Path:
        """Where faults are recorded; absent while nothing was broken."""
        return self.lab_dir / NEMESIS_LEDGER

    @property
    def notifications(self) -> Path:
        """What the notification sink has taken; absent where nobody was ever told anything."""
        return LabFiles(self.lab_dir).notifications

    def ledgers(self) -> list[Path]:
        """Return the ledgers of all clients of this lab, oldest first."""
        return sorted(self.ledger_dir.glob("*.jsonl"))


def running_lab(lab_dir: Path | None) -> Target:
    """Return the lab in `lab_dir` (None: the setting's).

    Raises chaos.lab.process.LabError when none runs.
    """
    return target_of(Lab(load_settings(lab_dir=lab_dir).lab_dir))


def target_of(lab: Lab) -> Target:
    """Return the addresses of a lab; raises LabError when it does not run."""
    status = lab.status()
    return Target(
        url=status["web"]["url"],
        bootstrap=status["broker"]["bootstrap"],
        dsn=status["postgres"]["dsn"],
        gateway_ledger=Path(status["gateway"]["ledger"]),
        lab_dir=Path(status["lab_dir"]),
    )
