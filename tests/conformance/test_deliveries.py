"""Whatever is delivered, however often and in whatever order: effects once, poison parked."""

from __future__ import annotations

import itertools

import pytest

from app.messages import Output
from tests.conformance.poison import POISON, spoil
from tests.conformance.stage import PARTITIONS, Stage
from tests.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.faults, pytest.mark.timeout(900)]

DUPLICATES = "symphony_delivery_duplicates_total"


def test_duplicates_in_one_poll_have_one_effect(stage: Stage) -> None:
    """The same event three times in one poll is applied once."""
    before = stage.count(DUPLICATES, source="batch")
    keys = stage.keys(50)
    stage.topics.send(one for one in stage.messages(keys) for _ in range(3))
    stage.assert_once(keys)
    assert stage.count(DUPLICATES, source="batch") > before


def test_duplicates_across_polls_have_one_effect(stage: Stage) -> None:
    """An event that comes again later is answered from what was stored, byte for byte."""
    keys = stage.keys(50)
    stage.topics.send(stage.messages(keys))
    stage.wait_effects(keys)
    source = "table" if any("idempotency" in name for name in stage.subject.tables) else "inbox"
    before = stage.count(DUPLICATES, source=source)
    for _ in range(2):
        stage.topics.send(reversed(stage.messages(keys)))
        stage.settled()
    stage.assert_once(keys)
    assert stage.count(DUPLICATES, source=source) - before >= 2 * len(keys)


def test_permuted_commands_of_a_key_commute(stage: Stage) -> None:
    """A command and its undoing, twice each and in every order, leave nothing behind."""
    if stage.subject.undo is None:
        pytest.skip(f"an input of role {stage.subject.role} has no undoing command")
    subject = stage.subject
    orders = sorted(itertools.permutations("doDO"))
    keys = stage.keys(len(orders))
    rounds: list[list[Output]] = [[], [], [], []]
    for key, order in zip(keys, orders, strict=True):
        for turn, letter in zip(rounds, order, strict=True):
            made = subject.message(key) if letter in "dD" else subject.undoing(key)
            turn.append(stage.placed(made))
    for turn in rounds:
        stage.topics.send(turn)
    stage.settled()
    facts = subject.effects(stage.dsn, keys)
    assert facts.keys() == set(keys)
    assert [key for key in keys if not subject.undone(facts[key])] == []
    if subject.role == "payment":
        assert stage.captured(keys) == dict.fromkeys(keys, 0)


def test_a_barrier_proves_that_all_before_it_is_finished(stage: Stage) -> None:
    """Once its inbox rows are there, so are all effects and outputs, without any more waiting; the
    handler never sees it, and a repeated one is only a repeat."""
    if stage.subject.role in ("dlq", "probe"):
        pytest.skip("the auditor writes barriers to topics of messages in the catalogue only")
    keys = stage.keys(200)
    barriers = [
        stage.barrier(topic, n) for topic in stage.subject.topics for n in range(PARTITIONS)
    ]
    stage.topics.send([*stage.messages(keys), *barriers])
    wait_until(
        lambda: stage.passed(barriers) == len(barriers), timeout_s=120, what="barriers passed"
    )
    stage.assert_outputs(keys)
    facts = stage.subject.effects(stage.dsn, keys)
    assert facts == dict.fromkeys(keys, stage.subject.once)
    stage.topics.send(barriers)
    stage.assert_once(keys)
    assert stage.passed(barriers) == len(barriers)


def test_what_does_not_concern_a_handler_costs_no_inbox_row(stage: Stage) -> None:
    """A selective handler's other events are passed over: acknowledged, without a trace, and the
    ones that concern it between them have their effects."""
    if stage.subject.unconcerned is None:
        pytest.skip(f"every event concerns the handler of role {stage.subject.role}")
    keys, others = stage.keys(40), stage.keys(40)
    passed = [stage.placed(stage.subject.passed_over(key)) for key in others]
    stage.topics.send(
        one for pair in zip(stage.messages(keys), passed, strict=True) for one in pair
    )
    stage.assert_once(keys)
    assert stage.subject.effects(stage.dsn, others) == {}
    rows = stage.sql(
        "SELECT count(*) FROM ops.inbox WHERE event_id::text = ANY(%(ids)s)",
        ids=[stage.subject.event_id(key) for key in others],
    )
    assert rows == [(0,)]


def test_poison_is_dead_lettered_and_neighbours_flow(whole_path: Stage) -> None:
    """Every kind of broken record goes to the dead letters with origin and reason, and ends no
    worker; the good records between them have their effects."""
    stage = whole_path
    copies = 20
    keys = stage.keys(len(POISON) * copies)
    good = stage.messages(keys)
    bad = [
        (kind, stage.placed(spoil(kind, stage.subject.message(stage.subject.key(0)))))
        for kind in POISON
    ]
    already = len(stage.letters())
    mixed = [record for n, one in enumerate(good) for record in (one, bad[n % len(bad)][1])]
    # Poison goes to every partition, whatever its key.
    spread = [
        Output(one.topic, one.key, one.value, one.headers, n % PARTITIONS) if n % 2 else one
        for n, one in enumerate(mixed)
    ]
    pid, ends = stage.fleet.pid("worker-1"), stage.ends()
    stage.topics.send(spread)
    wait_until(
        lambda: len(stage.letters()) - already >= len(good),
        timeout_s=120,
        what=f"{len(good)} dead letters",
    )
    stage.assert_once(keys)
    letters = stage.letters()[already:]
    assert len(letters) == len(good), "each once"
    reasons = [letter.header("x-error-reason") for letter in letters]
    wanted = [POISON[kind].reason for kind, _ in bad] * copies
    assert sorted(reasons) == sorted(wanted)
    for letter in letters:
        assert letter.header("x-original-topic") == stage.subject.input
        assert int(letter.header("x-original-partition")) == letter.partition
        assert letter.header("x-original-offset").isdigit()
        assert letter.header("x-error-class") == "poison"
        assert letter.header("x-first-failed-at")
    raw = {(letter.key, letter.value) for letter in letters}
    assert raw == {(one.key, one.value) for _, one in bad}, "raw bytes are kept"
    assert len({letter.header("x-original-offset") for letter in letters}) > copies
    assert (stage.fleet.pid("worker-1"), stage.ends()) == (pid, ends)
