"""The commands `symphony dlq`."""

from __future__ import annotations

import typer

from chaos.console import floods

dlq = typer.Typer(no_args_is_help=True, help="Dead letters of the running lab.")
floods.register(dlq)


def register(root: typer.Typer) -> None:
    """Add `symphony dlq`."""
    root.add_typer(dlq, name="dlq")
