"""The programs of Prometheus for tests that need real ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chaos.observe.programs import NotInstalled, find

REQUIRED = "REQUIRE_PROMETHEUS"


def program(name: str) -> Path:
    """A program of Prometheus. Where it is not installed the test is skipped with the reason; with
    REQUIRE_PROMETHEUS=1, as in continuous integration, it fails.
    """
    try:
        return find(name)
    except NotInstalled as reason:
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"{REQUIRED} is 1, and {reason}", pytrace=False)
        pytest.skip(str(reason))
