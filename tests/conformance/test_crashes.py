"""The worker dies at every point of its path: effects once, outputs there, tables as they were."""

from __future__ import annotations

import pytest

from tests.conformance.stage import CRASHED, Stage
from tests.conformance.subjects import TICK_POINTS
from tests.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.faults, pytest.mark.timeout(900)]

PER_LIFE = 20


def test_a_crash_at_any_point_repeats_harmlessly(stage: Stage) -> None:
    """One life after the other dies at the next point, with the last one's batch still open; the
    last life finishes everything exactly once."""
    points = stage.subject.points
    before = stage.ends()[CRASHED]
    keys = stage.keys(PER_LIFE)
    stage.topics.send(stage.messages(keys))
    stage.restart(*(f"{point}=crash" for point in points))
    for lives, point in enumerate(points, start=1):
        more = stage.keys(PER_LIFE)
        stage.topics.send(stage.messages(more))
        keys += more
        wait_until(
            lambda lives=lives: stage.ends()[CRASHED] - before >= lives,  # type: ignore[misc]
            timeout_s=60,
            what=f"the crash at {point}; {stage.fleet.log_tail()}",
        )
        facts = stage.subject.effects(stage.dsn, keys)
        assert stage.excess(facts) == [], f"after the crash at {point}"
    assert stage.struck() == list(points)
    stage.ready()
    stage.assert_once(keys)
    assert stage.ends()[CRASHED] - before == len(points)


def test_a_crash_in_a_tick_repeats_harmlessly(stage: Stage) -> None:
    """Due work is cut off before its commit, then before its outputs; afterwards it was done once
    and every output of it is there."""
    if not stage.subject.ticked:
        pytest.skip(f"nothing falls due at an input of role {stage.subject.role}")
    keys = stage.keys(PER_LIFE)
    stage.heal(STEP_DEADLINE_S="15")
    stage.topics.send(stage.messages(keys))
    stage.assert_once(keys)
    before = stage.ends()[CRASHED]
    stage.restart(*(f"{point}=crash" for point in TICK_POINTS))
    for lives, point in enumerate(TICK_POINTS, start=1):
        wait_until(
            lambda lives=lives: stage.ends()[CRASHED] - before >= lives,  # type: ignore[misc]
            timeout_s=60,
            what=f"the crash at {point}; {stage.fleet.log_tail()}",
        )
    assert stage.struck() == list(TICK_POINTS)
    wanted = dict.fromkeys(keys, stage.subject.ticked)
    wait_until(
        lambda: stage.subject.effects(stage.dsn, keys) == wanted,
        timeout_s=120,
        what="the due work of every input",
    )
    assert stage.ends()[CRASHED] - before == len(TICK_POINTS)
    stage.assert_outputs(keys, distinct=2)
