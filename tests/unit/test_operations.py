"""What an operator's actions do to a saga, beyond the table of every pair (test_saga_pairs.py)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.domain.definition import COMPENSATION, DEFINITIONS, FORWARD
from app.domain.exploration import SMALL, START, answer, creation, explore, intervention
from app.domain.operations import ACTIONS, OPERATED, REFUSALS, legal, possible
from app.domain.saga import Applied, Ignored, Illegal, Incoming, Saga, decide, timeout

pytestmark = pytest.mark.unit

PAYMENT, INVENTORY, SHIPPING, COMMIT = DEFINITIONS["order.v1"].steps
PARKED_CHARGE = answer(PAYMENT, FORWARD, "PARKED", state_version=0)
PAID, HELD = answer(PAYMENT, FORWARD, "OK"), answer(INVENTORY, FORWARD, "OK")


def last(*events: Incoming) -> Applied:
    """The last decision of a story whose every event is applied."""
    saga: Saga | None = None
    decision: Applied | None = None
    for event in events:
        now = START if saga is None or saga.due is None else saga.due
        found = decide(saga, event, now, policy=SMALL)
        assert isinstance(found, Applied), (event, found)
        saga, decision = found.saga, found
    assert decision is not None
    return decision


def feed(saga: Saga, event: Incoming) -> Applied:
    """Decide one event that must be applied."""
    found = decide(saga, event, saga.due or START, policy=SMALL)
    assert isinstance(found, Applied), found
    return found


def test_a_retried_charge_is_sent_again_and_awaited_like_a_new_one() -> None:
    """Same id, a fresh deadline with all its re-drives, a mark above every earlier one."""
    sent = last(creation())
    redriven = feed(sent.saga, timeout(sent.saga))
    parked = feed(redriven.saga, PARKED_CHARGE).saga
    assert (parked.state, parked.due, parked.redrives) == ("PARKED", None, 1)
    retried = feed(parked, intervention("retry", parked.version))
    saga = retried.saga
    assert [one.command_id for one in retried.commands] == [sent.commands[0].command_id]
    assert (saga.state, saga.steps[0].status, saga.tries) == ("PAYMENT_PENDING", "SENT", 0)
    assert saga.due == START + timedelta(seconds=SMALL.wait_s(PAYMENT, 0))
    assert saga.redrives == 2
    assert feed(saga, timeout(saga)).saga.redrives == 3
    assert [line.event for line in retried.transitions] == ["operator_retried", "payment_pending"]
    assert retried.transitions[0].reason == "charge by eve: because"


def test_a_resumed_charge_is_awaited_and_not_sent() -> None:
    """The redriven dead letter is the command; only the deadline starts again."""
    parked = last(creation(), PARKED_CHARGE).saga
    resumed = feed(parked, intervention("resume", parked.version))
    assert resumed.commands == ()
    assert (resumed.saga.state, resumed.saga.redrives) == ("PAYMENT_PENDING", 0)
    assert resumed.saga.due is not None
    assert feed(resumed.saga, PAID).saga.state == "INVENTORY_PENDING"


def test_a_new_command_has_no_mark_of_the_one_before() -> None:
    """The mark belongs to a command id: the next step's first command carries none."""
    parked = last(creation(), PARKED_CHARGE).saga
    retried = feed(parked, intervention("retry", parked.version)).saga
    assert (retried.redrives, feed(retried, PAID).saga.redrives) == (1, 0)


def test_a_parked_order_is_turned_back_by_an_operator() -> None:
    """What may have been done is undone, and the reason is the operator's."""
    parked = last(creation(), PARKED_CHARGE).saga
    turned = feed(parked, intervention("compensate", parked.version))
    assert (turned.saga.state, turned.saga.reason) == ("COMPENSATING", "operator")
    assert [one.topic for one in turned.commands] == ["payment.refund"]


def test_a_skipped_refund_ends_the_order_and_stays_known() -> None:
    """The compensations before it go on; nothing that comes later revives the order."""
    refused = last(creation(), PAID, HELD, answer(SHIPPING, FORWARD, "REFUSED")).saga
    released = feed(refused, answer(INVENTORY, COMPENSATION, "OK", state_version=2)).saga
    skipped = feed(released, intervention("skip", released.version))
    assert (skipped.saga.state, skipped.saga.settled) == ("CANCELLED", True)
    assert [step.skipped for step in skipped.saga.steps] == [True, False, False, False]
    assert skipped.transitions[0].reason == "refund by eve: because"
    late = answer(PAYMENT, FORWARD, "OK", state_version=9)
    assert decide(skipped.saga, late, START, policy=SMALL) == Ignored("skipped")
    repaid = answer(PAYMENT, COMPENSATION, "OK", state_version=9)
    assert decide(skipped.saga, repaid, START, policy=SMALL) == Ignored("stale")


def test_a_skip_goes_on_with_the_earlier_compensations() -> None:
    """Giving up the release does not give up the refund."""
    refused = last(creation(), PAID, HELD, answer(SHIPPING, FORWARD, "REFUSED")).saga
    skipped = feed(refused, intervention("skip", refused.version))
    assert [one.topic for one in skipped.commands] == ["payment.refund"]
    assert skipped.saga.state == "COMPENSATING"


def test_a_skipped_commit_completes_the_order() -> None:
    """After the pivot there is no way back, so giving the commit up means going on."""
    shipped = last(creation(), PAID, HELD, answer(SHIPPING, FORWARD, "OK")).saga
    assert legal(shipped, "compensate") == "past_pivot"
    skipped = feed(shipped, intervention("skip", shipped.version)).saga
    assert (skipped.state, skipped.settled, skipped.steps[3].skipped) == ("COMPLETED", True, True)


@pytest.mark.parametrize("step", [PAYMENT, INVENTORY, SHIPPING], ids=lambda step: step.name)
def test_a_forward_command_is_never_skipped(step: object) -> None:
    """Not pending, not parked: the saga would go on with what nobody has."""
    for edge in explore():
        saga = edge.before
        if saga is None or (index := saga.current()) is None:
            continue
        if saga.plan.steps[index] is step and saga.steps[index].status in ("SENT", "PARKED"):
            assert legal(saga, "skip") == "forward_step"


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (intervention("retry", 1), "retry by eve: stale_version (saw 1, it is 2)"),
        (intervention("retry", 3), "retry by eve: stale_version (saw 3, it is 2)"),
        (intervention("skip", 2), "skip by eve: forward_step"),
        (intervention("skip", 2, reason=" "), "skip by eve: reason_missing"),
    ],
)
def test_a_refusal_is_told_and_does_nothing(event: Incoming, told: str) -> None:
    """One line of history, no command, the deadline as it was."""
    saga = last(creation(), PARKED_CHARGE).saga
    refused = feed(saga, event)
    assert [(line.event, line.reason) for line in refused.transitions] == [
        ("operator_refused", told)
    ]
    assert refused.commands == ()
    assert (refused.saga.steps, refused.saga.due, refused.saga.state) == (
        saga.steps, saga.due, saga.state,
    )  # fmt: skip


def test_an_action_on_an_unknown_order_is_illegal() -> None:
    """The API knows the saga before it asks; anything else is a forged record."""
    assert decide(None, intervention("retry", 1), START) == Illegal("unknown_order")


def test_what_is_possible_is_what_decide_does() -> None:
    """On every reachable record: offered means done, and every refusal says what to do instead."""
    seen = set()
    for before, name, decision in explore():
        action = name.removeprefix("operator ")
        if before is None or action not in ACTIONS:
            continue
        assert isinstance(decision, Applied)
        event = decision.transitions[0].event
        assert event in OPERATED
        assert (event != "operator_refused") == (action in possible(before))
        refusal = legal(before, action)
        assert not refusal or REFUSALS[refusal]
        seen.add(refusal)
    assert seen == {"", *REFUSALS} - {"reason_missing", "stale_version"}
