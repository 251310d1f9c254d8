"""Who acts at the command line: named by option, setting or login, and told in every act."""

from __future__ import annotations

import getpass
import shlex
import urllib.request
from collections.abc import Iterator
from typing import Any

import click
import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from app import cli
from app.cli import Failure
from chaos.console.api import Api, ApiError
from chaos.console.options import OPERATOR_HELP, acting

pytestmark = pytest.mark.unit

ACTS = (
    "saga retry 1 --version 1",
    "saga resume 1 --version 1",
    "saga compensate 1 --version 1",
    "saga skip 1 --version 1 --reason x",
    "review approve 1",
    "review reject 1 --reason x",
    "dlq replay a.dlt",
    "dlq edit 1 {}",
    "dlq discard a.dlt --reason x",
    "dlq purge a.dlt",
    "dlq cancel 1",
    "dlq release payment",
    "replay payment 5m",
    "chaos on drop --for 5s --reason x",
    "chaos off all",
    "chaos kill",
    "canary set 5",
    "canary off",
    "payments mode ERROR",
)
IN_THE_BOOK = {"gameday run", "gameday abort"}
"""Write to PostgreSQL and not to the API; tests/integration/test_api_gameday.py."""


@pytest.fixture(scope="module")
def root() -> typer.Typer:
    """The whole command line."""
    cli.load_plugins()
    return cli.root


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[urllib.request.Request]:
    """What was asked of an API that is away."""
    requests: list[urllib.request.Request] = []

    def away(_: Api, request: urllib.request.Request) -> Any:
        requests.append(request)
        raise ApiError("away")

    monkeypatch.setattr(Api, "_send", away)
    monkeypatch.delenv("SYMPHONY_OPERATOR", raising=False)
    return requests


@pytest.mark.parametrize("line", ACTS)
def test_an_act_says_whose_it_is(
    line: str,
    root: typer.Typer,
    sent: list[urllib.request.Request],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The option goes before the setting."""
    monkeypatch.setenv("SYMPHONY_OPERATOR", "ada")
    command = [*shlex.split(line), "--url", "http://nowhere"]
    for more in ([], ["--operator", "bob"]):
        assert isinstance(CliRunner().invoke(root, [*command, *more]).exception, ApiError)
    assert {request.get_method() for request in sent} <= {"POST", "PUT", "DELETE"}
    assert [request.get_header("X-operator") for request in sent] == ["ada", "bob"]


def test_the_commands_that_act_are_those_with_an_operator(root: typer.Typer) -> None:
    """One that is added stands in `ACTS`."""
    found = {name for name, command in _commands(get_command(root)) if _has_operator(command)}
    assert {name for name in found if not any(_is(line, name) for line in ACTS)} == IN_THE_BOOK


def test_without_a_name_it_is_the_login_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is none, or none that a header carries, it is `operator`."""
    monkeypatch.delenv("SYMPHONY_OPERATOR", raising=False)
    monkeypatch.setattr(getpass, "getuser", lambda: "eve")
    assert acting("") == acting("  eve ") == "eve"
    monkeypatch.setattr(getpass, "getuser", lambda: "zoë")
    assert acting("") == "operator"

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1000")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert acting("") == "operator"


@pytest.mark.parametrize("name", ["zoë", "a\nb", "x" * 101])
def test_a_name_that_no_header_carries_is_refused(name: str) -> None:
    """Before anything is asked for."""
    with pytest.raises(Failure, match="--operator takes 1 to 100"):
        acting(name)


def _commands(group: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in getattr(group, "commands", {}).items():
        yield " ".join((*path, name)), command
        yield from _commands(command, (*path, name))


def _has_operator(command: click.Command) -> bool:
    return any(getattr(option, "help", "") == OPERATOR_HELP for option in command.params)


def _is(line: str, name: str) -> bool:
    return line == name or line.startswith(f"{name} ")
