"""The commands `symphony canary`."""

from __future__ import annotations

import typer


def register(root: typer.Typer) -> None:
    """Add the commands to `root`."""
