"""What the ledger puts on trial: a two-stage application, its processes and its effects.

Both stages keep state for event n: stage 1 reads the input topic, writes state 1, sends n to the
middle topic; stage 2 reads that, writes state 2. Each stage leaves an effect. A subject says how
its processes start and where its effects are; the harness does the rest in the same way for all.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from chaos.ledger.events import Numbered

PARTITIONS = 4
"""Of every topic of a trial: the same for all subjects, so that their figures can be compared."""


class Launch(NamedTuple):
    """One process to start."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    client_id: str


class TopicPlan(NamedTuple):
    """One topic the subject needs before its workers start."""

    name: str
    partitions: int
    config: Mapping[str, str]


@dataclass
class Effects:
    """What one stage did: effects and deliveries per event number."""

    effects: Counter[int] = field(default_factory=Counter)
    deliveries: Counter[int] = field(default_factory=Counter)
    without_state: int = 0


class Subject(Protocol):
    """An application on trial."""

    name: str
    group: str
    partitions: int
    input_topic: str
    middle_topic: str
    changelog_topic: str
    effects_once: bool
    final_state: bytes

    def topics(self) -> list[TopicPlan]:
        """Topics to create before the first worker starts."""

    def launch(self, worker: str, incarnation: int) -> Launch:
        """How incarnation number `incarnation` of `worker` is started."""

    def encode(self, seq: int) -> Numbered:
        """Event `seq` as the input topic carries it."""

    def stage(self, number: int) -> Effects:
        """Everything stage 1 or 2 has done since the trial began."""

    def finished(self) -> int:
        """Distinct or total effects of stage 2 so far, cheaply (used to count events in flight)."""

    def close(self) -> None:
        """Release connections."""


def sequence_of(key: bytes) -> int:
    """The event number in a record key. Raises ValueError for anything else."""
    return int(key.decode("ascii"))


def key_of(seq: int) -> bytes:
    """Record key of event `seq`."""
    return str(seq).encode("ascii")


def environment() -> dict[str, str]:
    """This process's environment, with the project importable whether installed or not."""
    root = str(Path(__file__).resolve().parents[2])
    inherited = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{inherited}" if inherited else root}
