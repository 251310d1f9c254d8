"""The verdict of the rebalance ledger: pure counting over evidence.

Per acknowledged event and stage: *lost* when the offset that carried it is committed and no
effect exists; *stuck* when it is not committed and no effect exists at the deadline. An event whose
stage 1 is done but which never reached the middle topic is stage 1's loss. Duplicates are
deliveries beyond the first; *doubled* are events with more than one effect.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from chaos.ledger.group import Partition
from chaos.ledger.subject import Effects

WITNESSES_MAX = 8


class Seen(NamedTuple):
    """Where one event number stands in one topic: every (partition, offset) that carries it."""

    topic: str
    places: Mapping[int, list[tuple[int, int]]]


@dataclass(frozen=True)
class Evidence:
    """Everything the verdict rests on, read when the group was quiet or the deadline had passed."""

    acked: Collection[int]
    inputs: Seen
    middles: Seen
    committed: Mapping[Partition, int]
    stage_1: Effects
    stage_2: Effects
    table: Mapping[int, bytes]
    final_state: bytes


@dataclass(frozen=True)
class StageVerdict:
    """One stage; witnesses are event numbers, at most `WITNESSES_MAX` of each kind."""

    lost: int = 0
    stuck: int = 0
    doubled: int = 0
    duplicates: int = 0
    without_state: int = 0
    witnesses: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """Counts over `events` acknowledged events; `quiet` says whether every offset was committed."""

    events: int
    missing_in_topic: int
    stage_1: StageVerdict
    stage_2: StageVerdict
    table_wrong: int
    table_witnesses: tuple[tuple[int, str], ...]
    quiet: bool

    @property
    def lost(self) -> int:
        """Events lost in either stage."""
        return self.stage_1.lost + self.stage_2.lost + self.missing_in_topic

    @property
    def stuck(self) -> int:
        """Events held back in either stage."""
        return self.stage_1.stuck + self.stage_2.stuck

    @property
    def duplicates(self) -> int:
        """Deliveries beyond the first in both stages."""
        return self.stage_1.duplicates + self.stage_2.duplicates

    def findings(self, *, effects_once: bool) -> list[str]:
        """What is wrong, in words; empty when the subject kept its promise.

        Duplicated effects count only against a subject that promises effects once.
        """
        doubled = self.stage_1.doubled + self.stage_2.doubled
        counts = {
            "no event was sent": int(not self.events),
            "acknowledged but not in the topic": self.missing_in_topic,
            "lost in stage 1": self.stage_1.lost,
            "lost in stage 2": self.stage_2.lost,
            "stuck in stage 1": self.stage_1.stuck,
            "stuck in stage 2": self.stage_2.stuck,
            "effects doubled": doubled if effects_once else 0,
            "stage 2 without the state of stage 1": self.stage_2.without_state,
            "wrong final table state": self.table_wrong,
            "offsets not committed at the deadline": int(not self.quiet),
        }
        return [f"{count} {what}" for what, count in counts.items() if count]


def judge(evidence: Evidence, *, quiet: bool) -> Verdict:
    """Count. The same evidence always gives the same verdict."""
    acked = sorted(evidence.acked)
    wrong = [
        (seq, repr(evidence.table.get(seq)))
        for seq in acked
        if evidence.table.get(seq) != evidence.final_state
    ]
    return Verdict(
        events=len(acked),
        missing_in_topic=sum(1 for seq in acked if seq not in evidence.inputs.places),
        stage_1=_stage(acked, evidence.inputs, evidence.middles, evidence.stage_1, evidence),
        stage_2=_stage(acked, evidence.middles, None, evidence.stage_2, evidence),
        table_wrong=len(wrong),
        table_witnesses=tuple(wrong[:WITNESSES_MAX]),
        quiet=quiet,
    )


def _stage(
    acked: list[int], source: Seen, output: Seen | None, done: Effects, evidence: Evidence
) -> StageVerdict:
    lost: list[int] = []
    stuck: list[int] = []
    for seq in acked:
        finished = seq in done.effects and (output is None or seq in output.places)
        if finished or seq not in source.places:
            continue
        committed = any(
            offset < evidence.committed.get((source.topic, partition), 0)
            for partition, offset in source.places[seq]
        )
        (lost if committed else stuck).append(seq)
    doubled = sorted(seq for seq, count in done.effects.items() if count > 1)
    witnesses = {"lost": lost, "stuck": stuck, "doubled": doubled}
    return StageVerdict(
        lost=len(lost),
        stuck=len(stuck),
        doubled=len(doubled),
        duplicates=sum(count - 1 for count in done.deliveries.values() if count > 1),
        without_state=done.without_state,
        witnesses={kind: tuple(found[:WITNESSES_MAX]) for kind, found in witnesses.items()},
    )
