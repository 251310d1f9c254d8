"""Commands in the documentation exist, and each is run by a test."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from app import cli

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md")])
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:symphony|make) [^`\n]*)`")

RUN_ELSEWHERE = {
    "make demo": "tests/e2e/test_demo.py",
    "make test": ".ci/run",
    "make observe": ".ci/run",
    "symphony up": "tests/lab/test_supervisor.py",
    "symphony down": "tests/lab/test_supervisor.py",
    "symphony status": "tests/lab/test_supervisor.py",
    "symphony kill": "tests/lab/test_supervisor.py",
    "symphony order": "tests/integration/test_console.py",
    "symphony saga": "tests/integration/test_console.py",
    "symphony dlq": "tests/integration/test_console_dlq.py",
    "symphony gameday": "tests/gameday/test_gameday.py",
    "symphony payments": "tests/integration/test_api_payments.py",
    "symphony review": "tests/integration/test_fraud_review.py",
    "symphony canary": "tests/integration/test_canary.py",
    "symphony slo": "tests/integration/test_slo.py",
    "symphony trace": "tests/e2e/test_traces.py",
    "symphony replay": "tests/integration/test_replay.py",
    "symphony load": "tests/e2e/test_demo.py",
    "symphony audit": "tests/e2e/test_demo.py",
    "symphony demo": "tests/e2e/test_demo.py",
    "symphony ledger": "tests/faults/test_rebalance_ledger.py",
    "symphony ablate": "tests/ablation/test_ablation.py",
    "symphony campaign": "tests/faults/test_campaign.py",
    "symphony simulate": "tests/simulation/test_simulation.py",
    "symphony lesson": "tests/lessons/test_dual_write.py",
}
"""Commands that need servers, and the test that runs them."""


def commands() -> list[str]:
    """Every command of a console block, and every `symphony ...` or `make ...` in the text."""
    found: set[str] = set()
    for page in PAGES:
        text = page.read_text()
        for block in BLOCK.findall(text):
            found.update(line[2:] for line in block.splitlines() if line.startswith("$ "))
        found.update(INLINE.findall(text))
    return sorted({command.removeprefix(".venv/bin/") for command in found})


def words(command: str) -> list[str]:
    """The command's words up to its first option or argument."""
    kept = []
    for word in command.split():
        if not re.fullmatch(r"[a-z][a-z-]*", word):
            break
        kept.append(word)
    return kept


@lru_cache(maxsize=1)
def command_line() -> Any:
    """The whole `symphony`, with the commands of all packages."""
    cli.load_plugins()
    return get_command(cli.root)


@pytest.mark.unit
@pytest.mark.parametrize("command", [one for one in commands() if one.startswith("symphony")])
def test_a_documented_symphony_command_exists(command: str) -> None:
    """The command line knows every command and option that the documentation shows."""
    found = command_line()
    for word in words(command)[1:]:
        if word not in getattr(found, "commands", {}):
            break  # the last word may be an argument
        found = found.commands[word]
    assert found is not command_line(), command
    known = {name for one in found.params for name in (*one.opts, *one.secondary_opts)}
    for option in re.findall(r"--[a-z-]+", command):
        assert option in {*known, "--help"}, f"{command}: no option {option}"


@pytest.mark.unit
@pytest.mark.parametrize("command", [one for one in commands() if one.startswith("make")])
def test_a_documented_make_target_exists(command: str) -> None:
    """Every make target that the documentation shows is one."""
    target = command.split()[1]
    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.unit
def test_every_command_that_needs_servers_is_run_by_a_test() -> None:
    """The console blocks of the README hold nothing that no test runs."""
    shown = [
        line[2:].removeprefix(".venv/bin/")
        for block in BLOCK.findall((ROOT / "README.md").read_text())
        for line in block.splitlines()
        if line.startswith("$ ")
    ]
    for command in shown:
        key = " ".join(words(command)[:2])
        assert key in RUN_ELSEWHERE, f"{command}: no test runs it"
        assert (ROOT / RUN_ELSEWHERE[key]).exists(), RUN_ELSEWHERE[key]


@pytest.mark.unit
def test_documentation_links_lead_somewhere() -> None:
    """Every relative link of every page names a file that exists."""
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
