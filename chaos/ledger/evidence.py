"""Collects the evidence of a trial from the broker, the load and the subject's effects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos.ledger.audit import Evidence, Seen
from chaos.ledger.subject import sequence_of
from chaos.ledger.topic import TopicLog, committed_offsets

if TYPE_CHECKING:
    from chaos.ledger.trial import Trial


class Collector:
    """Reads whole topics in instalments, so that a long campaign reads each record once."""

    def __init__(self, trial: Trial, bootstrap: str) -> None:
        subject = trial.subject
        self._trial, self._bootstrap = trial, bootstrap
        self._logs = {
            topic: TopicLog(bootstrap, topic, subject.partitions)
            for topic in (subject.input_topic, subject.middle_topic, subject.changelog_topic)
        }
        self._places: dict[str, dict[int, list[tuple[int, int]]]] = {
            subject.input_topic: {},
            subject.middle_topic: {},
        }
        self._table: dict[int, bytes] = {}

    def collect(self) -> Evidence:
        """Evidence as of now. Raises KafkaException or LabError when the broker is away."""
        subject = self._trial.subject
        committed = committed_offsets(self._bootstrap, subject.group)
        for topic, places in self._places.items():
            for record in self._logs[topic].advance():
                if record.key is not None:
                    places.setdefault(sequence_of(record.key), []).append(
                        (record.partition, record.offset)
                    )
        for record in self._logs[subject.changelog_topic].advance():
            if record.key is None:
                continue
            seq = sequence_of(record.key)
            if record.value is None:
                self._table.pop(seq, None)
            else:
                self._table[seq] = record.value
        return Evidence(
            acked=frozenset(self._trial.load.acked),
            inputs=Seen(subject.input_topic, self._places[subject.input_topic]),
            middles=Seen(subject.middle_topic, self._places[subject.middle_topic]),
            committed=committed,
            stage_1=subject.stage(1),
            stage_2=subject.stage(2),
            table=self._table,
            final_state=subject.final_state,
        )
