"""Commands of other packages: one entry point each, named like the command."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from typer.main import get_command

from app import cli

pytestmark = pytest.mark.unit

OWN = {"worker", "config", "topics", "db"}


def test_every_command_has_an_entry_point_of_its_name() -> None:
    """Else it is found, too, but only after all others were imported."""
    cli.load_plugins()
    known = set(getattr(get_command(cli.root), "commands", {}))
    assert known - OWN == {entry.name for entry in entry_points(group=cli.PLUGIN_GROUP)}


def test_a_command_imports_no_other_package_of_commands() -> None:
    """`symphony status` answers without the engine of the experiments."""
    look = (
        "import sys; from app import cli; cli.load_plugins('status');"
        "print(sorted({'chaoslib', 'sqlalchemy', 'aiohttp', 'duckdb'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
