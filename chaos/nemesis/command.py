"""`symphony nemesis` and `symphony failpoints`: what can be broken, and breaking it."""

from __future__ import annotations

import typer

from chaos.faults.command import failpoints


def register(root: typer.Typer) -> None:
    """Add the commands to the root command."""
    root.command()(failpoints)
