"""`python -m chaos.gameday.child LAB_DIR RUN_ID`: execute one queued GameDay; used by the role."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from chaos.gameday import catalogue
from chaos.gameday.book import Book
from chaos.gameday.errors import GameDayError
from chaos.gameday.run import prepare, run
from chaos.gameday.source import Mistake
from chaos.lab.client import Lab
from chaos.lab.process import LabError
from chaos.workload.target import target_of


def main(lab_dir: Path, run_id: str) -> int:
    """Exit code of the verdict; 2, with the reason in the history, when it could not begin."""
    logging.getLogger("chaostoolkit").setLevel(logging.CRITICAL)
    lab = Lab(lab_dir)
    book = Book(target_of(lab).dsn)
    try:
        row = book.find(run_id)
        experiment = catalogue.shipped(row.experiment).with_overrides(row.options)
        game = prepare(experiment, requested_by=row.requested_by, say=print, lab=lab, run_id=run_id)
        found, _ = run(game)
    except (GameDayError, Mistake, LabError) as error:
        book.lost(run_id, f"it could not begin: {error}")
        print(error)
        return 2
    return found.exit_code


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
