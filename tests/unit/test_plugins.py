"""Commands of other packages: one entry point each, named like the command."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.unit


def test_a_command_imports_no_other_package_of_commands() -> None:
    """`symphony status` answers without the engine of the experiments."""
    look = (
        "import sys; from app import cli; cli.load_plugins('status');"
        "print(sorted({'chaoslib', 'sqlalchemy', 'aiohttp', 'duckdb'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
