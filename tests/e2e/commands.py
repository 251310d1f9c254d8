"""Running `symphony` as a person does, against a given lab."""

from __future__ import annotations

import os
import subprocess
import sys

from chaos.demo.script import Stage


def symphony(
    stage: Stage, *arguments: str, timeout_s: float = 280
) -> subprocess.CompletedProcess[str]:
    """Run a command with the lab's addresses in its environment."""
    addresses = {
        "SYMPHONY_LAB_DIR": str(stage.target.lab_dir),
        "SYMPHONY_BROKER_BOOTSTRAP": stage.target.bootstrap,
    }
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, **addresses},
        cwd=stage.target.lab_dir,
    )
