"""Results as files: one JSON document with everything and one Markdown page with the tables.

`bench/results/NAME-DATE.json|md`; a later run of the same day replaces both.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


def command() -> str:
    """The command line of this run."""
    return shlex.join(["python", "-m", f"bench.{Path(sys.argv[0]).stem}", *sys.argv[1:]])


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """A Markdown table; numbers are aligned by the reader."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join("-" if c is None else str(c) for c in r) + " |" for r in rows]


def write(name: str, title: str, facts: dict[str, Any], body: Sequence[str]) -> Path:
    """Write both files and return the page's path; `facts` has what machine.describe() gives."""
    now = datetime.now(UTC)
    document = {
        "bench": name,
        "command": command(),
        "at": now.isoformat(timespec="seconds"),
        **facts,
    }
    loud = [f"**NOISY: {line}**" for line in facts.get("warnings", [])]
    lines = [
        f"# {title}, {now:%Y-%m-%d}",
        "",
        f"`{document['command']}`",
        "",
        f"{facts['machine']}.",
        f"Load average {facts['load_average']}.",
        f"Calibration {facts['calibration_us']} us (wall/CPU {facts['wall_per_cpu']}).",
        "",
        *loud,
        *([""] if loud else []),
        *body,
    ]
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{now:%Y-%m-%d}.md"
    path.write_text("\n".join(lines).rstrip() + "\n")
    path.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    return path


def percentiles(values: Sequence[float], scale: float = 1.0) -> dict[str, float | None]:
    """p50, p95, p99 and max of `values` times `scale` (nearest rank); None without values."""
    ordered = sorted(values)
    if not ordered:
        return {"p50": None, "p95": None, "p99": None, "max": None}
    picked = {
        f"p{share}": ordered[min(len(ordered) - 1, len(ordered) * share // 100)]
        for share in (50, 95, 99)
    }
    return {name: round(at * scale, 1) for name, at in {**picked, "max": ordered[-1]}.items()}
