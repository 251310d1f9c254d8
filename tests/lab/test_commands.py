"""The command `symphony` as people and tools use it, on a lab with real workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.lab.client import Lab

pytestmark = [pytest.mark.integration, pytest.mark.faults]
WORKERS = "--workers=orchestrator=0,inventory=0,shipping=0,dlq=0,slo=0"


class Symphony:
    """Runs the command in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `symphony ARGUMENTS` to its end."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("SYMPHONY_")}
        return subprocess.run(
            [sys.executable, "-P", "-m", "app.cli", *arguments],
            cwd=self.directory,
            env={**inherited, **environment},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        """The JSON document that a successful command prints."""
        done = self(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def symphony(servers_dir: Path) -> Iterator[Symphony]:
    """The command in a directory without a lab."""
    directory = servers_dir / "commands"
    directory.mkdir()
    yield Symphony(directory)
    Lab(directory / ".lab").down()


@pytest.fixture
def nowhere(tmp_path: Path) -> Symphony:
    """The command in an empty directory."""
    return Symphony(tmp_path)


@pytest.mark.timeout(600)
def test_a_lab_from_up_to_down(symphony: Symphony) -> None:
    """up, status, topics, kill, restart, logs, down do what they say, with real workers."""
    up = symphony.json("up", "--detach", WORKERS)
    assert up["state"] == "ready"
    names = {row["name"]: row for row in up["processes"]}
    servers = {"broker", "postgres", "gateway-sim"}
    assert set(names) == servers | {"web-1", "relay-1", "payment-1", "notification-1"}

    status = symphony.json("status")
    rows = {row["name"]: row for row in status["processes"]}
    assert status["broker"] == up["broker"]
    delivery = rows["payment-1"]["delivery"]
    assert delivery["ready"] is True
    assert [consumer["consumer"] for consumer in delivery["consumers"]] == ["payment"]
    assert "payment-1" in symphony("status").stdout

    at_broker = {"SYMPHONY_BROKER_BOOTSTRAP": status["broker"]["bootstrap"], "SYMPHONY_LAB": "true"}
    assert symphony("topics", "check", **at_broker).returncode == 0
    wrong = symphony("topics", "check", SYMPHONY_TOPIC_PARTITIONS="3", **at_broker)
    assert wrong.returncode == 3
    assert "has 4 partitions instead of 3" in wrong.stdout

    assert symphony.json("kill", "relay-1")["pid"] == rows["relay-1"]["pid"]
    lab = Lab(symphony.directory / ".lab")
    assert lab.wait_restarted("relay-1", rows["relay-1"]["pid"], timeout_s=60)["restarts"] == 1
    assert symphony.json("restart", "web-1")["state"] == "ready"
    logs = symphony("logs", "payment", "-n", "5").stdout.splitlines()
    assert 1 <= len(logs) <= 5
    assert all(line.startswith("payment-1  ") for line in logs)

    again = symphony("up", "--detach")
    assert again.returncode == 1
    assert "already runs" in again.stderr
    down = symphony("down", "--purge")
    assert (down.returncode, down.stdout) == (0, "the lab is down\n")
    assert not (symphony.directory / ".lab").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["status"], 1, "no lab runs in"),
        (["kill", "web-1"], 1, "no lab runs in"),
        (["logs"], 1, "no log of a lab"),
        (["up", "-d", "--workers", "cook=1"], 1, "unknown role 'cook'"),
        (["up", "-d", "--workers", "payment"], 1, "KEY=VALUE is expected"),
        (["up", "-d", "--broker", "borrowed"], 2, "broker_kind = 'borrowed' (command line"),
        (["worker", "cook"], 2, "unknown role 'cook'; known roles: web"),
        (["topics", "apply"], 1, "Kafka at 127.0.0.1:9 does not answer"),
        (["db", "migrate"], 1, "PostgreSQL at postgresql://u:****@127.0.0.1:9/x does not answer"),
    ],
)
def test_errors_are_one_line_with_an_exit_code(
    nowhere: Symphony, arguments: list[str], code: int, complaint: str
) -> None:
    """A command that cannot work prints one line that says why, and no traceback."""
    done = nowhere(
        *arguments,
        SYMPHONY_BROKER_BOOTSTRAP="127.0.0.1:9",
        SYMPHONY_POSTGRES_DSN="postgresql://u:secret@127.0.0.1:9/x",
    )
    assert done.returncode == code
    assert done.stderr.startswith("symphony: ")
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "secret" not in done.stderr


def test_down_is_harmless_without_a_lab(nowhere: Symphony) -> None:
    """`down` may be run at any time."""
    done = nowhere("down")
    assert (done.returncode, done.stdout) == (0, "no lab was running\n")


def test_config_show_names_origins_and_masks_secrets(nowhere: Symphony) -> None:
    """`config show --origin` prints where a value is from and never a password."""
    done = nowhere(
        "config", "show", "--origin", SYMPHONY_POSTGRES_DSN="postgresql://u:secret@db:5432/x"
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("postgres_dsn"))
    assert "postgresql://u:****@db:5432/x" in line
    assert line.endswith("environment")


def test_doctor_finds_this_machine_able(nowhere: Symphony) -> None:
    """`doctor` looks at everything the lab needs and says so as data."""
    findings = {row["name"]: row for row in nowhere.json("doctor")}
    assert {"java", "kafka", "postgresql", "orphan guard", "disk"} <= set(findings)
    assert {"prometheus", "alertmanager"} == {k for k, row in findings.items() if row["optional"]}
    assert all(row["ok"] or row["optional"] for row in findings.values())


def test_doctor_says_how_to_get_what_is_missing(nowhere: Symphony) -> None:
    """With wrong settings `doctor` fails and names the remedy."""
    done = nowhere("doctor", SYMPHONY_WEBPORT="1")
    assert done.returncode == 1
    assert "missing  settings: unknown setting SYMPHONY_WEBPORT" in done.stdout


def test_doctor_finds_the_optional_programs_where_the_setting_says(
    nowhere: Symphony, tmp_path: Path
) -> None:
    """Prometheus and Alertmanager are named with place and version."""
    for name, says in (
        ("prometheus", "prometheus"),
        ("promtool", "promtool"),
        ("prometheus-alertmanager", "alertmanager"),
        ("amtool", "amtool"),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{says}, version 2.77.1'\n")
        (tmp_path / name).chmod(0o755)
    done = nowhere("doctor", SYMPHONY_OBSERVE_BIN_DIR=str(tmp_path))
    assert f"{tmp_path}/promtool (version 2.77)" in done.stdout
    assert f"{tmp_path}/amtool (version 2.77)" in done.stdout
    assert "ok       alertmanager (optional): " in done.stdout
