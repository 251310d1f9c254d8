"""An auditor that ends without a verdict is never taken for one, whatever its exit code."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from chaos import audit
from chaos.workload.target import Target

TARGET = Target("", "", "", Path("gateway"), Path())
ENDS = {
    "killed": "import os; os.kill(os.getpid(), 9)",
    "an unexpected error": "raise KeyError('orders')",
    "a torn document": 'print(\'{"exit_code": 1, "inv\'); raise SystemExit(1)',
    "another verdict than it wrote": "print('{\"exit_code\": 0}'); raise SystemExit(1)",
    "no document": "print('[]')",
}


def auditor(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Have `program` instead of the auditor, and a lab."""
    monkeypatch.setattr(audit, "_command", lambda *_: [sys.executable, "-c", program])
    monkeypatch.setattr(audit, "running_lab", lambda _: TARGET)


@pytest.mark.parametrize("end", ENDS)
def test_without_a_verdict_the_audit_has_failed(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """The message tells how it ended, and the command's exit code is 2, never 1."""
    auditor(monkeypatch, ENDS[end])
    with pytest.raises(audit.AuditFailed, match=r"the auditor ended (by signal 9|with exit code)"):
        audit.run_audit(TARGET, [])
    app = typer.Typer()
    audit.register(app)
    done = CliRunner().invoke(app, [])
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1].startswith("symphony audit: the auditor ended ")


def test_a_verdict_is_told_with_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The document comes through as it is, and progress with it."""
    program = "import sys; sys.stderr.write('at rest\\n'); print('{\"exit_code\": 1}'); sys.exit(1)"
    auditor(monkeypatch, program)
    app = typer.Typer()
    audit.register(app)
    done = CliRunner().invoke(app, ["--json"])
    assert (done.exit_code, done.stdout) == (1, '{"exit_code": 1}\n')
    assert "at rest" in done.stderr
