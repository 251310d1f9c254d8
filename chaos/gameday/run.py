"""Running an experiment: from a valid file to a verdict, in this process."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import psycopg2
from chaoslib.experiment import run_experiment
from chaoslib.types import Strategy

from app.settings import load_settings
from chaos.gameday import lock, session
from chaos.gameday.book import Book, Teller
from chaos.gameday.errors import GameDayError
from chaos.gameday.experiment import Experiment
from chaos.gameday.game import Game
from chaos.gameday.timeline import Say
from chaos.gameday.verdict import Verdict
from chaos.lab.client import Lab
from chaos.workload.target import target_of


def prepare(
    experiment: Experiment,
    *,
    requested_by: str,
    say: Say,
    lab: Lab | None = None,
    run_id: str = "",
    report_dir: Path | None = None,
) -> Game:
    """Open a run of `experiment`, or go on with `run_id`; it begins with Chaos Toolkit.

    Raises GameDayError when another one goes on, LabError without a running lab.
    """
    lab = lab or Lab(load_settings().lab_dir)
    target = target_of(lab)
    lock.alone(lab.files.root).close()
    book, owner = Book(target.dsn), f"pid {os.getpid()}"
    try:
        if run_id:
            book.take_over(run_id, owner)
        else:
            options = msgspec.to_builtins(experiment.knobs)
            run_id = book.begin(
                experiment.name, experiment.title, options, by=requested_by, owner=owner
            )
    except psycopg2.Error as error:
        raise GameDayError(f"PostgreSQL: {' '.join(str(error).split())}") from None
    game = Game(
        experiment,
        lab,
        run_id=run_id,
        recorder=Teller(book, run_id),
        report_dir=report_dir,
        say=say,
    )
    game.known = book.violated_before()
    session.begin(game)
    return game


def run(game: Game) -> tuple[Verdict, Mapping[str, Any]]:
    """Let Chaos Toolkit run what was prepared; verdict and journal. Raises GameDayError."""
    experiment = game.experiment
    data = copy.deepcopy(experiment.data)
    settings = {"runtime": data.get("runtime", {})}
    data["configuration"] = msgspec.to_builtins(experiment.knobs)
    journal: dict[str, Any] = run_experiment(data, settings, strategy=Strategy.DEFAULT)
    if game.verdict is None:
        raise GameDayError(game.broken or "the GameDay ended without a verdict")
    return game.verdict, journal
