"""Stock Faust on trial: how its workers start and where their effects are."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from chaos.ledger.events import Numbered
from chaos.ledger.subject import PARTITIONS, Effects, Launch, TopicPlan, environment, key_of

if TYPE_CHECKING:
    from pathlib import Path

    from chaos.ledger.trial import Limits


class StockSubject:
    """The control (chaos.ledger.stock) in one of its modes; effects in append-only files."""

    effects_once = False
    final_state = b"2:2"
    partitions = PARTITIONS

    def __init__(self, mode: str, bootstrap: str, directory: Path, limits: Limits) -> None:
        self.name = self.group = f"stock-{mode}"
        self.input_topic, self.middle_topic = f"{self.group}.in", f"{self.group}.out"
        self.changelog_topic = f"{self.group}-t-changelog"
        self._mode, self._bootstrap, self._directory = mode, bootstrap, directory
        self._limits = limits
        self._read_to: dict[Path, int] = {}
        self._stages = {1: Effects(), 2: Effects()}

    def topics(self) -> list[TopicPlan]:
        """Input, middle and changelog topic."""
        return [
            TopicPlan(self.input_topic, self.partitions, {}),
            TopicPlan(self.middle_topic, self.partitions, {}),
            TopicPlan(self.changelog_topic, self.partitions, {"cleanup.policy": "compact"}),
        ]

    def launch(self, worker: str, incarnation: int) -> Launch:
        """One Faust worker process; `incarnation` is of no use to stock Faust."""
        options = {
            "bootstrap": self._bootstrap,
            "group": self.group,
            "worker": worker,
            "mode": self._mode,
            "partitions": self.partitions,
            "directory": self._directory,
            "session-timeout-s": self._limits.session_timeout_s,
            "rebalance-timeout-s": self._limits.rebalance_timeout_s,
            "commit-interval-s": 0.5,
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        command = (sys.executable, "-W", "ignore", "-m", "chaos.ledger.stock", *arguments)
        return Launch(command, environment(), worker)

    def encode(self, seq: int) -> Numbered:
        """The bare number; stock agents need no envelope."""
        return Numbered(key_of(seq), b"{}", [])

    def stage(self, number: int) -> Effects:
        """Effects of a stage; every delivery is an effect here."""
        self._read()
        return self._stages[number]

    def finished(self) -> int:
        """Events with a stage-2 effect."""
        self._read()
        return len(self._stages[2].effects)

    def close(self) -> None:
        """Nothing is open."""

    def _read(self) -> None:
        for path in sorted(self._directory.glob("effects-*")):
            with path.open("rb") as file:
                file.seek(self._read_to.get(path, 0))
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._read_to[path] = self._read_to.get(path, 0) + len(whole)
            for line in whole.splitlines():
                stage, seq, _, _, had_state, _ = line.split()
                effects = self._stages[int(stage)]
                effects.effects[int(seq)] += 1
                effects.deliveries[int(seq)] += 1
                effects.without_state += stage == b"2" and had_state == b"0"
