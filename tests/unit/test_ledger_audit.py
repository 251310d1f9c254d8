"""The verdict of the rebalance ledger, from evidence made by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from chaos.ledger.audit import Evidence, Seen, judge
from chaos.ledger.subject import Effects

pytestmark = pytest.mark.unit

NUMBERS = range(4)


def clean() -> Evidence:
    """Four events on one partition, both stages done once, everything committed."""
    places = {seq: [(0, seq)] for seq in NUMBERS}
    once = Counter(dict.fromkeys(NUMBERS, 1))
    return Evidence(
        acked=frozenset(NUMBERS),
        inputs=Seen("in", places),
        middles=Seen("out", places),
        committed={("in", 0): 4, ("out", 0): 4},
        stage_1=Effects(Counter(once), Counter(once)),
        stage_2=Effects(Counter(once), Counter(once)),
        table=dict.fromkeys(NUMBERS, b"2:2"),
        final_state=b"2:2",
    )


def effects(*numbers: int) -> Effects:
    """Each number handled as often as it is named."""
    return Effects(Counter(numbers), Counter(numbers))


def without(seq: int) -> dict[int, list[tuple[int, int]]]:
    """Places of all numbers but one."""
    return {n: [(0, n)] for n in NUMBERS if n != seq}


def test_a_clean_run_finds_nothing() -> None:
    """Every event through both stages once, committed, in its final state: no finding."""
    verdict = judge(clean(), quiet=True)
    assert verdict.findings(effects_once=True) == []
    assert (verdict.events, verdict.lost, verdict.stuck, verdict.duplicates) == (4, 0, 0, 0)


def test_committed_without_effect_is_lost() -> None:
    """The group has moved past the event and nothing happened: lost, with its number."""
    verdict = judge(replace(clean(), stage_2=effects(0, 1, 3)), quiet=True)
    assert (verdict.lost, verdict.stuck) == (1, 0)
    assert verdict.stage_2.witnesses["lost"] == (2,)
    assert verdict.findings(effects_once=True) == ["1 lost in stage 2"]


def test_uncommitted_without_effect_is_stuck() -> None:
    """The group has not reached the event at the deadline: stuck, not lost."""
    evidence = replace(clean(), stage_2=effects(0, 1), committed={("in", 0): 4, ("out", 0): 2})
    verdict = judge(evidence, quiet=False)
    assert (verdict.lost, verdict.stuck) == (0, 2)
    assert "2 stuck in stage 2" in verdict.findings(effects_once=True)
    assert "1 offsets not committed at the deadline" in verdict.findings(effects_once=True)


def test_the_offset_at_the_committed_one_is_not_finished() -> None:
    """A committed offset is the next to read: the record at it is still stuck."""
    evidence = replace(clean(), stage_1=effects(0, 1, 2), committed={("in", 0): 3, ("out", 0): 4})
    assert judge(evidence, quiet=False).stage_1.stuck == 1


def test_an_effect_that_never_reached_the_middle_topic_is_a_loss_of_stage_1() -> None:
    """An output that was committed over is lost where it should have been sent."""
    evidence = replace(clean(), middles=Seen("out", without(3)), stage_2=effects(0, 1, 2))
    verdict = judge(evidence, quiet=True)
    assert (verdict.stage_1.lost, verdict.stage_2.lost) == (1, 0)


def test_an_acknowledged_event_that_is_in_no_topic_is_missing() -> None:
    """The broker said yes and has no record: counted as lost, charged to no stage."""
    evidence = replace(
        clean(),
        inputs=Seen("in", without(0)),
        middles=Seen("out", without(0)),
        stage_1=effects(1, 2, 3),
        stage_2=effects(1, 2, 3),
    )
    verdict = judge(evidence, quiet=True)
    assert (verdict.missing_in_topic, verdict.lost) == (1, 1)
    assert (verdict.stage_1.lost, verdict.stage_2.lost) == (0, 0)


def test_an_event_the_broker_never_acknowledged_is_not_counted() -> None:
    """What the producer cannot be sure of proves nothing."""
    evidence = replace(clean(), acked=frozenset({0, 1}), stage_2=effects(0, 1))
    verdict = judge(evidence, quiet=True)
    assert (verdict.events, verdict.lost, verdict.stuck) == (2, 0, 0)


def test_a_doubled_effect_counts_only_against_a_promise_of_once() -> None:
    """Two effects of one event break our core's promise; stock Faust gives none."""
    verdict = judge(replace(clean(), stage_1=effects(0, 1, 1, 2, 3)), quiet=True)
    assert verdict.stage_1.doubled == 1
    assert verdict.findings(effects_once=True) == ["1 effects doubled"]
    assert verdict.findings(effects_once=False) == []


def test_a_repeated_delivery_is_a_duplicate_but_no_finding() -> None:
    """At-least-once delivers again; only the effect must stay single."""
    stage = Effects(Counter(NUMBERS), Counter([0, 0, 0, 1, 2, 3]))
    verdict = judge(replace(clean(), stage_1=stage), quiet=True)
    assert verdict.duplicates == 2
    assert verdict.findings(effects_once=True) == []


def test_a_table_that_did_not_reach_its_final_state_is_found() -> None:
    """A missing and a regressed entry are both wrong; the witnesses say which."""
    table = {0: b"2:2", 1: b"1:1", 2: b"2:2"}
    verdict = judge(replace(clean(), table=table), quiet=True)
    assert verdict.table_wrong == 2
    assert dict(verdict.table_witnesses) == {1: "b'1:1'", 3: "None"}


def test_state_that_was_not_there_yet_is_found() -> None:
    """A stage 2 that met no state of stage 1 means outputs left before their state."""
    stage = replace(effects(*NUMBERS), without_state=3)
    verdict = judge(replace(clean(), stage_2=stage), quiet=True)
    assert verdict.findings(effects_once=True) == ["3 stage 2 without the state of stage 1"]


def test_a_run_without_events_proves_nothing() -> None:
    """Zero lost of zero sent is a finding."""
    evidence = replace(clean(), acked=frozenset())
    assert judge(evidence, quiet=True).findings(effects_once=True) == ["1 no event was sent"]
