"""One event fails, or ends its worker, or its output is refused: its neighbours do not suffer."""

from __future__ import annotations

import pytest
from aiokafka.structs import ConsumerRecord

from app.messages import Output, deadletter
from app.topics import BATCH_BYTES_MAX
from tests.conformance.stage import CRASHED, FAIL_STOP, TIER, Seen, Stage
from tests.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.faults, pytest.mark.timeout(900)]

ATTEMPTS = 3
"""retry_attempts_max of the stage."""


def forbid(stage: Stage, *keys: str) -> None:
    """Let PostgreSQL refuse the effects of exactly these keys."""
    table, column = stage.subject.effect_table, stage.subject.effect_key
    stage.sql(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS forbidden")
    if keys:
        stage.sql(
            f"ALTER TABLE {table} ADD CONSTRAINT forbidden"
            f" CHECK ({column} <> ALL(%(keys)s::text[])) NOT VALID",
            keys=list(keys),
        )


def retried(stage: Stage, key: str, attempt: int) -> Seen | None:
    """The record of a key that waits in the retry tier after failure number `attempt`."""
    return next(
        (
            one
            for one in stage.topics.read(TIER)
            if one.key == key.encode() and one.header("x-attempt") == str(attempt)
        ),
        None,
    )


def redelivered(waiting: Seen) -> Output:
    """What role dlq sends back when the record is due."""
    record = ConsumerRecord(
        waiting.topic, waiting.partition, waiting.offset, 0, 0, waiting.key, waiting.value,
        None, 0, 0, waiting.headers,
    )  # fmt: skip
    return deadletter.redeliver(record)


def test_an_event_that_fails_in_the_middle_is_isolated(stage: Stage) -> None:
    """The one that PostgreSQL refuses climbs the tier and is parked, one that works later is
    applied then, and every neighbour in their batches is applied once."""
    keys = stage.keys(60)
    hopeless, late = keys[20], keys[41]
    neighbours = [key for key in keys if key not in (hopeless, late)]
    forbid(stage, hopeless, late)
    stage.topics.send(stage.messages(keys))
    for attempt in range(1, ATTEMPTS):
        waiting = wait_until(
            lambda attempt=attempt: retried(stage, hopeless, attempt),  # type: ignore[misc]
            timeout_s=60,
            what=f"retry {attempt} of the refused event",
        )
        assert waiting.header("x-retry-role") == stage.subject.role
        assert waiting.header("x-original-topic") == stage.subject.input
        assert "CheckViolation" in waiting.header("x-error-message")
        assert waiting.header("x-due-at")
        if attempt == 1:
            stage.assert_once(neighbours)
            forbid(stage, hopeless)
            second = wait_until(
                lambda: retried(stage, late, 1), timeout_s=60, what="the other one's retry"
            )
            stage.topics.send([redelivered(second)])
        stage.topics.send([redelivered(waiting)] * 2)
    letters = wait_until(
        lambda: [one for one in stage.letters() if one.key == hopeless.encode()],
        timeout_s=60,
        what="the dead letter",
    )
    assert letters[0].header("x-attempt") == str(ATTEMPTS)
    stage.settled()
    forbid(stage)
    wanted = dict.fromkeys([*neighbours, late], stage.subject.once)
    assert stage.subject.effects(stage.dsn, keys) == wanted


def test_a_command_retried_behind_its_undoing_commutes(stage: Stage) -> None:
    """While a command waits on its tier its undoing is applied; the command's re-delivery, twice,
    then finds that: nothing is left behind, as when it comes back before its undoing."""
    if stage.subject.undo is None:
        pytest.skip(f"an input of role {stage.subject.role} has no undoing command")
    subject, keys = stage.subject, stage.keys(6)
    behind, before = keys[:3], keys[3:]
    forbid(stage, *keys)
    stage.topics.send(stage.messages(keys))
    waiting = {
        key: wait_until(
            lambda key=key: retried(stage, key, 1),  # type: ignore[misc]
            timeout_s=60,
            what="the refused command's retry",
        )
        for key in keys
    }
    forbid(stage)
    undoings = {key: stage.placed(subject.undoing(key)) for key in keys}
    stage.topics.send([undoings[key] for key in behind])
    stage.topics.send([redelivered(waiting[key]) for key in before] * 2)
    stage.settled()
    stage.topics.send([redelivered(waiting[key]) for key in behind] * 2)
    stage.topics.send([undoings[key] for key in before])
    stage.settled()
    facts = subject.effects(stage.dsn, keys)
    assert facts.keys() == set(keys)
    assert [key for key in keys if not subject.undone(facts[key])] == []
    if subject.role == "payment":
        assert stage.captured(keys) == dict.fromkeys(keys, 0)


def test_a_refused_output_ends_the_worker_and_loses_nothing(stage: Stage) -> None:
    """When the broker refuses the outputs the worker fails stop with its batch unacknowledged;
    once the broker takes them every output is there and every effect happened once."""
    before = stage.ends()[FAIL_STOP]
    keys = stage.keys(60)
    stage.limit_record_size(stage.subject.outputs, 100)
    try:
        stage.topics.send(stage.messages(keys))
        wait_until(
            lambda: stage.ends()[FAIL_STOP] > before,
            timeout_s=120,
            what="the worker's own end",
        )
    finally:
        stage.limit_record_size(stage.subject.outputs, BATCH_BYTES_MAX)
    stage.assert_once(keys)


def test_a_record_that_kills_its_worker_is_dead_lettered(whole_path: Stage) -> None:
    """A record whose batches of one ended the process often enough is parked as killed_worker,
    and its neighbours have their effects."""
    stage = whole_path
    keys = stage.keys(12)
    killer = keys[5]
    before = stage.ends()[CRASHED]
    rule = f"delivery.in_transaction=crash;match={killer}"
    stage.restart(*[rule] * 20, KILLER_WINDOW_S="600", KILLER_ENDS_MAX="2")
    stage.topics.send(stage.messages(keys))
    letters = wait_until(
        lambda: [one for one in stage.letters() if one.key == killer.encode()],
        timeout_s=240,
        what="the dead letter",
    )
    assert letters[0].header("x-error-reason") == "killed_worker"
    assert letters[0].header("x-original-topic") == stage.subject.input
    stage.settled()
    neighbours = [key for key in keys if key != killer]
    wanted = dict.fromkeys(neighbours, stage.subject.once)
    assert stage.subject.effects(stage.dsn, keys) == wanted
    assert 3 <= stage.ends()[CRASHED] - before <= 4
    stage.heal()
