"""`symphony order ls` over the pages of the API."""

from __future__ import annotations

import json
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from chaos.console.api import Api
from chaos.console.command import register

pytestmark = pytest.mark.unit

PAGES: dict[str, dict[str, Any]] = {
    "/api/orders?limit=3&status=PARKED": {"orders": [], "next": "a"},
    "/api/orders?limit=3&status=PARKED&before=a": {"orders": [{"orderId": "1"}], "next": "b"},
    "/api/orders?limit=2&status=PARKED&before=b": {"orders": [{"orderId": "2"}], "next": None},
}


def test_short_pages_are_followed_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of a status may be short or empty: only a `next` of null ends the list."""
    monkeypatch.setattr(Api, "get", lambda _, path: PAGES[path])
    root = typer.Typer()
    register(root)
    listed = CliRunner().invoke(
        root, ["order", "ls", "--status", "PARKED", "--limit", "3", "--url", "http://api", "--json"]
    )
    assert [one["orderId"] for one in json.loads(listed.output)] == ["1", "2"]
