"""`python -m bench`: a short version of every bench, under five minutes on a quiet machine.

Results go to bench/results/short-*; the real figures come from the single benches, see README.md.
Ends with 1 when one of them failed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHORT = (
    ("arrays", "--loops", "300"),
    ("failpoints", "--passes", "200000", "--repeat", "3"),
    ("dispatch", "--records", "20000", "--repeat", "1"),
    ("api", "--rate", "500", "--seconds", "5", "--keys"),
    ("orders", "--rates", "300,500", "--seconds", "8", "--warm-up", "4", "--drain", "2000"),
    ("redrive", "--letters", "5000", "--redrive", "2000", "--pages", "20"),
    ("slo", "--orders", "2000", "--reads", "50"),
    ("audit", "--orders", "2000"),
    ("rebalance", "--rounds", "2", "--stock", "", "--kills", "1"),
)


def main() -> None:
    """Run all, one after the other."""
    failed = []
    for name, *arguments in SHORT:
        command = [sys.executable, "-m", f"bench.{name}", *arguments, "--name", f"short-{name}"]
        if name != "rebalance":
            command.append("--force")
        print(f"\n== bench.{name} {' '.join(arguments)}", flush=True)
        began = time.monotonic()
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            failed.append(name)
        print(f"== {time.monotonic() - began:.0f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
