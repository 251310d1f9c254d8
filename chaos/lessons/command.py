"""`symphony lesson ...`: every lesson is one command."""

from __future__ import annotations

import typer

from chaos.lessons.dual_write.command import dual_write


def register(root: typer.Typer) -> None:
    """Add `symphony lesson`."""
    lesson = typer.Typer(
        name="lesson",
        help="Provoke a failure on real servers, see it, mend it, prove it.",
        no_args_is_help=True,
    )
    lesson.callback()(_lessons)
    lesson.command("dual-write")(dual_write)
    root.add_typer(lesson)


def _lessons() -> None:
    """Provoke a failure on real servers, see it, mend it, prove it."""
