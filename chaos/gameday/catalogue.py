"""The experiments that are shipped, by name."""

from __future__ import annotations

from pathlib import Path

import chaos.experiments
from chaos.gameday.errors import GameDayError
from chaos.gameday.experiment import Experiment
from chaos.gameday.parse import load

DIRECTORY = Path(chaos.experiments.__file__).parent


def names() -> list[str]:
    """Every shipped experiment."""
    return sorted(path.stem for path in DIRECTORY.glob("*.yaml"))


def shipped(name: str) -> Experiment:
    """A shipped experiment. Raises GameDayError with the known names."""
    if name not in names():
        raise GameDayError(f"unknown experiment {name!r}; known: {', '.join(names())}")
    return load(DIRECTORY / f"{name}.yaml")


def find(which: str) -> Experiment:
    """A file, or a shipped experiment by its name. Raises GameDayError and Mistake."""
    path = Path(which)
    if path.suffix in (".yaml", ".yml") or "/" in which:
        return load(path)
    return shipped(which)
