"""Free ports are given once, over calls and over processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from chaos.lab import process
from chaos.lab.process import LabError, free_port

pytestmark = pytest.mark.unit

OTHER = """
import sys
from chaos.lab.process import free_port
print(free_port(), flush=True)
sys.stdin.read()
"""


def test_no_port_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not while another process that was given it lives, and never again by the same process."""
    with subprocess.Popen(
        [sys.executable, "-c", OTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        monkeypatch.setattr(process, "_PORTS", (port, port + 1))
        assert not process.port_in_use(port)
        with pytest.raises(LabError, match="no free port"):
            free_port()
        other.communicate()
    assert free_port() == port
    with pytest.raises(LabError, match="no free port"):
        free_port()
