"""The book of a campaign: one JSON line a finished run, so that a campaign can be resumed."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

RUNS = "runs.jsonl"
SETTINGS = "campaign.json"


class Injected(msgspec.Struct, frozen=True, kw_only=True):
    """One injection as it ended; `outcome` is proved, void, skipped or refused.

    `expired`: its lease ended it, not the nemesis. `after_failed` is what the look at the victim
    after the fault's end found wrong.
    """

    fault: str
    target: str
    outcome: str
    detail: str
    started_s: float = 0.0
    lasted_s: float = 0.0
    recovered_s: float | None = None
    expired: bool = False
    after_failed: str = ""


class Uncovered(msgspec.Struct, frozen=True, kw_only=True):
    """A cell of the matrix that this lab or machine could not do, and why."""

    fault: str
    target: str
    reason: str


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `examined` counts items by invariant, over all that the lab has seen so far.

    `not_covered` are the cells that were not possible, when the lab began or when they were dealt.
    """

    number: int
    seed: int
    lab: int
    at: str
    seconds: float
    accepted: int
    refused: int
    unknown: int
    injections: list[Injected]
    result: str
    violated: list[str]
    unrest: str
    orders_audited: int
    records_audited: int
    repeated: int
    dead_letters: int
    parked: int
    audit_s: float
    examined: dict[str, int]
    not_covered: list[Uncovered] = []


class CampaignSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a resumed campaign must not change."""

    seed: int
    faults: int
    rate: float
    fresh_every: int
    proxy: bool
    only: list[str]


class OtherCampaign(Exception):
    """The directory holds the book of a campaign with other settings."""


class CampaignBook:
    """The book in `directory`. Raises OtherCampaign, OSError, msgspec.MsgspecError."""

    def __init__(self, directory: Path, settings: CampaignSettings) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._path = directory / RUNS
        known = directory / SETTINGS
        if known.exists():
            found = msgspec.json.decode(known.read_bytes(), type=CampaignSettings)
            if found != settings:
                raise OtherCampaign(f"{known} says {found}; use another --dir, or the same options")
        else:
            known.write_bytes(msgspec.json.format(msgspec.json.encode(settings)))

    def runs(self) -> list[RunResult]:
        """Every finished run, in the order of their ends; a torn last line is left out."""
        if not self._path.exists():
            return []
        lines = self._path.read_bytes().splitlines(keepends=True)
        return [msgspec.json.decode(line, type=RunResult) for line in lines if line.endswith(b"\n")]

    def append(self, run: RunResult) -> None:
        """Write one run; when this returns it is on disk."""
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(run) + b"\n")
            file.flush()
            os.fsync(file.fileno())
