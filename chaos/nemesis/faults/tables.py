"""Faults `table_loss` and `table_corruption`: what a worker kept on disk is gone, or rubbish."""

from __future__ import annotations

import shutil
from abc import abstractmethod
from pathlib import Path

from app.roles import ROLES
from chaos.nemesis.faults.fault import Fault, Run, Unproved, seen
from chaos.nemesis.faults.successor import gone, note
from chaos.nemesis.world import World, role_of


class TableFault(Fault):
    """A worker is stopped, something happens to its tables, it is started again."""

    aims = "a worker with tables"

    def targets(self, world: World) -> list[str]:
        return [one for one in world.workers() if ROLES[role_of(one)].tables]

    def start(self, run: Run) -> None:
        note(run, run.target)
        directory = run.world.tables_dir(run.target)
        run.undo("start", part=run.target)
        run.world.lab.stop(run.target)
        files = [one for one in directory.rglob("*") if one.is_file()]
        if not files:
            raise Unproved(f"{run.target} keeps nothing in {directory}")
        run.notes["evidence"] = self.spoil(run, directory, files)
        run.world.lab.start(run.target, wait=False)

    @abstractmethod
    def spoil(self, run: Run, directory: Path, files: list[Path]) -> str:
        """Do it to the files of a worker that does not run; returns the evidence."""

    def prove(self, run: Run) -> str:
        return f"{gone(run, run.target)}, {run.notes['evidence']}"

    def after(self, run: Run) -> str:
        seen(f"{run.target} serves again", lambda: serves(run))
        return "it serves again"


def serves(run: Run) -> bool:
    """Whether the target is ready."""
    return bool(run.world.lab.process(run.target)["state"] == "ready")


class TableLoss(TableFault):
    """The directory of a worker's tables is deleted; they must come back from their changelogs."""

    name = "table_loss"

    def spoil(self, run: Run, directory: Path, files: list[Path]) -> str:
        shutil.rmtree(directory)
        if directory.exists():
            raise Unproved(f"{directory} is still there")
        return f"{len(files)} files deleted"


class TableCorruption(TableFault):
    """Bytes in the files of a worker's tables are flipped; the worker must throw them away."""

    name = "table_corruption"

    def spoil(self, run: Run, directory: Path, files: list[Path]) -> str:
        spoiled = 0
        for file in sorted(files):
            content = bytearray(file.read_bytes())
            if not content or file.name in ("LOCK", "LOG") or file.name.startswith("LOG.old"):
                continue
            for place in {run.random.randrange(len(content)) for _ in range(8)}:
                content[place] ^= 0xFF
            file.write_bytes(content)
            spoiled += 1
        if not spoiled:
            raise Unproved(f"nothing to spoil in {directory}")
        return f"bytes flipped in {spoiled} files"
