"""Every pair of a state and an event: legal ones with their target, all others refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from app.domain.definition import COMPENSATION, DEFINITIONS, FORWARD, Kind, State
from app.domain.exploration import (
    SMALL,
    START,
    Edge,
    answer,
    cancellation,
    creation,
    explore,
    review,
    vocabulary,
)
from app.domain.operations import EVENTS, REFUSED
from app.domain.saga import Applied, Ignored, Illegal, Incoming, Saga, decide, timeout, to_bytes

pytestmark = pytest.mark.unit

if TYPE_CHECKING:
    from collections.abc import Iterator

PAYMENT, INVENTORY, SHIPPING, COMMIT = DEFINITIONS["order.v1"].steps
PAID = answer(PAYMENT, FORWARD, "OK")
HELD = answer(INVENTORY, FORWARD, "OK")
SHIPPED = answer(SHIPPING, FORWARD, "OK")
REFUNDED = answer(PAYMENT, COMPENSATION, "OK", state_version=2)


def after(*events: Incoming) -> Saga | None:
    """Return the saga after these events, each of which must be applied."""
    saga: Saga | None = None
    for event in events:
        decision = decide(saga, event, START, policy=SMALL)
        assert isinstance(decision, Applied), (event, decision)
        saga = decision.saga
    return saga


RECORDS: dict[str, Saga | None] = {
    "NONE": None,
    "STUB": after(cancellation()),
    "APPROVED STUB": after(review(approved=True)),
    "REJECTED STUB": after(review(approved=False)),
    "REVIEW": after(creation(review=True)),
    "PAYMENT_PENDING": after(creation()),
    "INVENTORY_PENDING": after(creation(), PAID),
    "SHIPPING_PENDING": after(creation(), PAID, HELD),
    "COMMIT_PENDING": after(creation(), PAID, HELD, SHIPPED),
    "COMPENSATING": after(creation(), PAID, HELD, answer(SHIPPING, FORWARD, "REFUSED")),
    "PARKED": after(creation(), answer(PAYMENT, FORWARD, "PARKED", state_version=0)),
    "COMPLETED": after(creation(), PAID, HELD, SHIPPED, answer(COMMIT, FORWARD, "OK")),
    "CANCELLED": after(creation(), PAID, answer(INVENTORY, FORWARD, "OUT_OF_STOCK"), REFUNDED),
    "REJECTED": after(creation(review=True), review(approved=False)),
}

OPERATED = {
    "NONE": {},
    "STUB": {},
    "APPROVED STUB": {},
    "REJECTED STUB": {},
    "REVIEW": {},
    "PAYMENT_PENDING": {"retry": "PAYMENT_PENDING", "compensate": "COMPENSATING"},
    "INVENTORY_PENDING": {"retry": "INVENTORY_PENDING", "compensate": "COMPENSATING"},
    "SHIPPING_PENDING": {"retry": "SHIPPING_PENDING", "compensate": "COMPENSATING"},
    "COMMIT_PENDING": {"retry": "COMMIT_PENDING", "skip": "COMPLETED"},
    "COMPENSATING": {"retry": "COMPENSATING", "skip": "COMPENSATING"},  # the charge comes next
    "PARKED": {
        "retry": "PAYMENT_PENDING",
        "resume": "PAYMENT_PENDING",
        "compensate": "COMPENSATING",
    },
    "COMPLETED": {},
    "CANCELLED": {},
    "REJECTED": {},
}
"""What an operator can do in each record; the rest is refused, and told in the history."""

CANCELS = {"cancel by customer": "COMPENSATING", "cancel by operator": "COMPENSATING"}

LEGAL: dict[str, dict[str, str]] = {
    "NONE": {
        "created": "PAYMENT_PENDING",
        "created for review": "REVIEW",
        "cancel by customer": "CANCELLED",
        "cancel by operator": "CANCELLED",
        "approved": "REVIEW",
        "rejected": "REJECTED",
    },
    "STUB": {"created": "CANCELLED", "created for review": "CANCELLED"},
    "APPROVED STUB": {
        "created": "PAYMENT_PENDING",
        "created for review": "PAYMENT_PENDING",
        "cancel by customer": "CANCELLED",
        "cancel by operator": "CANCELLED",
    },
    "REJECTED STUB": {"created": "REJECTED", "created for review": "REJECTED"},
    "REVIEW": {
        "approved": "PAYMENT_PENDING",
        "rejected": "REJECTED",
        "cancel by customer": "CANCELLED",
        "cancel by operator": "CANCELLED",
    },
    "PAYMENT_PENDING": {
        **CANCELS,
        "charge OK": "INVENTORY_PENDING",
        "charge DECLINED": "CANCELLED",
        "charge EXPIRED": "CANCELLED",
        "charge CANCELLED": "CANCELLED",
        "charge RETRYING": "PAYMENT_PENDING",
        "charge PARKED": "PARKED",
        "silence": "PAYMENT_PENDING",
    },
    "INVENTORY_PENDING": {
        **CANCELS,
        "reserve OK": "SHIPPING_PENDING",
        "reserve OUT_OF_STOCK": "COMPENSATING",
        "reserve EXPIRED": "COMPENSATING",
        "reserve CANCELLED": "COMPENSATING",
        "reserve RETRYING": "INVENTORY_PENDING",
        "reserve PARKED": "PARKED",
        "silence": "INVENTORY_PENDING",
    },
    "SHIPPING_PENDING": {
        **CANCELS,
        "ship OK": "COMMIT_PENDING",
        "ship REFUSED": "COMPENSATING",
        "ship EXPIRED": "COMPENSATING",
        "ship CANCELLED": "COMPENSATING",
        "ship RETRYING": "SHIPPING_PENDING",
        "ship PARKED": "PARKED",
        "silence": "SHIPPING_PENDING",
    },
    "COMMIT_PENDING": {
        "cancel by customer": "COMMIT_PENDING",  # recorded as refused
        "cancel by operator": "COMMIT_PENDING",
        "commit OK": "COMPLETED",
        "commit PARKED": "PARKED",
        "commit RETRYING": "COMMIT_PENDING",
        "commit REFUSED": "COMMIT_PENDING",  # tried again under a new id
        "commit OUT_OF_STOCK": "COMMIT_PENDING",
        "commit EXPIRED": "COMMIT_PENDING",
        "commit CANCELLED": "COMMIT_PENDING",
        "silence": "COMMIT_PENDING",
    },
    "COMPENSATING": {
        **CANCELS,  # recorded as requested
        "release OK": "COMPENSATING",
        "release PARKED": "PARKED",
        "release RETRYING": "COMPENSATING",
        "release REFUSED": "COMPENSATING",
        "release OUT_OF_STOCK": "COMPENSATING",
        "release EXPIRED": "COMPENSATING",
        "release CANCELLED": "COMPENSATING",
        "reserve OK": "COMPENSATING",  # a later state version: perhaps after the release
        "ship OK": "COMPENSATING",  # late success of a refused step
        "silence": "COMPENSATING",
    },
    "PARKED": {
        **CANCELS,
        "charge OK": "INVENTORY_PENDING",
        "charge DECLINED": "CANCELLED",
        "charge EXPIRED": "CANCELLED",
        "charge CANCELLED": "CANCELLED",
    },
    "COMPLETED": {"cancel by customer": "COMPLETED", "cancel by operator": "COMPLETED"},
    "CANCELLED": {"charge OK": "CANCELLED", "reserve OK": "CANCELLED"},  # compensated once more
    "REJECTED": {},
}

CREATED_AGAIN = {"created", "created for review"}
ASKED_AGAIN = {"cancel by customer", "cancel by operator"}
REVIEWED = {"approved", "rejected"}


def events(operation: str, *outcomes: str) -> set[str]:
    """Return event names of one operation."""
    return {f"{operation} {outcome}" for outcome in outcomes}


CHARGE_STALE = events("charge", "OK", "RETRYING", "PARKED")
RESERVE_STALE = events("reserve", "OK", "RETRYING", "PARKED")
SHIP_STALE = events("ship", "OK", "RETRYING", "PARKED")
CHARGE_REFUSED = events("charge", "DECLINED", "EXPIRED", "CANCELLED", "RETRYING", "PARKED")
RESERVE_REFUSED = events("reserve", "OUT_OF_STOCK", "EXPIRED", "CANCELLED", "RETRYING", "PARKED")
SHIP_REFUSED = events("ship", "REFUSED", "EXPIRED", "CANCELLED", "RETRYING", "PARKED")
COMMIT_STALE = events(
    "commit", "OK", "OUT_OF_STOCK", "REFUSED", "EXPIRED", "CANCELLED", "RETRYING", "PARKED"
)
REFUND_STALE = events("refund", "OK", "DECLINED", "EXPIRED", "CANCELLED", "RETRYING", "PARKED")

IGNORED: dict[str, set[str]] = {
    "NONE": {"silence"},
    "STUB": {*ASKED_AGAIN, *REVIEWED, "silence"},
    "APPROVED STUB": {*REVIEWED, "silence"},
    "REJECTED STUB": {*ASKED_AGAIN, *REVIEWED, "silence"},
    "REVIEW": {*CREATED_AGAIN, "silence"},
    "PAYMENT_PENDING": CREATED_AGAIN,
    "INVENTORY_PENDING": CREATED_AGAIN | CHARGE_STALE,
    "SHIPPING_PENDING": CREATED_AGAIN | CHARGE_STALE | RESERVE_STALE,
    "COMMIT_PENDING": CREATED_AGAIN | CHARGE_STALE | RESERVE_STALE | SHIP_STALE,
    "COMPENSATING": (
        CREATED_AGAIN | {"charge OK"} | CHARGE_REFUSED | RESERVE_REFUSED | SHIP_REFUSED
    ),
    "PARKED": {*CREATED_AGAIN, "charge RETRYING", "charge PARKED", "silence"},
    "COMPLETED": (
        CREATED_AGAIN | CHARGE_STALE | RESERVE_STALE | SHIP_STALE | COMMIT_STALE | {"silence"}
    ),
    "CANCELLED": (
        CREATED_AGAIN | ASKED_AGAIN | CHARGE_REFUSED | RESERVE_REFUSED | REFUND_STALE | {"silence"}
    ),
    "REJECTED": {*CREATED_AGAIN, *ASKED_AGAIN, "approved", "rejected", "silence"},
}


def pairs() -> Iterator[tuple[str, str, Incoming]]:
    """Yield every (record name, event name, event)."""
    for record, saga in RECORDS.items():
        for name, event in vocabulary(saga, "order.v1"):
            yield record, name, event


@pytest.mark.parametrize(
    ("record", "name", "event"), [pytest.param(*p, id=f"{p[0]}-{p[1]}") for p in pairs()]
)
def test_every_pair_is_legal_ignored_or_illegal(record: str, name: str, event: Incoming) -> None:
    """Each pair does what the tables above say, and a refused event leaves no trace."""
    saga = RECORDS[record]
    if saga is not None and name.startswith("operator "):
        _operated(record, saga, name.removeprefix("operator "), event)
        return
    before = None if saga is None else to_bytes(saga)
    now = START if saga is None or saga.due is None else saga.due
    decision = decide(saga, event, now, policy=SMALL)
    if name in LEGAL[record]:
        assert isinstance(decision, Applied)
        assert decision.saga.state == LEGAL[record][name]
        assert decision.saga.version == (1 if saga is None else saga.version + 1)
    elif name in IGNORED[record]:
        assert isinstance(decision, Ignored)
    else:
        assert isinstance(decision, Illegal)
    assert (None if saga is None else to_bytes(saga)) == before


def _operated(record: str, saga: Saga, action: str, event: Incoming) -> None:
    """A legal action moves the saga; a refused one leaves nothing but its line of history."""
    before = to_bytes(saga)
    now = saga.due or START
    decision = decide(saga, event, now, policy=SMALL)
    assert isinstance(decision, Applied)
    assert decision.saga.version == saga.version + 1
    assert decision.saga.state == OPERATED[record].get(action, saga.state)
    if action in OPERATED[record]:
        assert decision.transitions[0].event == EVENTS[action]
    else:
        assert [line.event for line in decision.transitions] == [REFUSED]
        assert decision.commands == ()
        kept = msgspec.structs.replace(
            decision.saga, version=saga.version, updated_at=saga.updated_at
        )
        assert to_bytes(kept) == before
    assert to_bytes(saga) == before


def test_the_tables_name_only_events_that_exist() -> None:
    """A misspelt event in the tables above would silently turn a check off."""
    names = {(record, name) for record, name, _ in pairs()}
    told = {(record, name) for record, targets in LEGAL.items() for name in targets}
    told |= {(record, name) for record, ignored in IGNORED.items() for name in ignored}
    assert told <= names
    assert set(LEGAL) == set(IGNORED) == set(OPERATED) == set(RECORDS)


@pytest.fixture(scope="module", params=sorted(DEFINITIONS))
def edges(request: pytest.FixtureRequest) -> tuple[Edge, ...]:
    """Every decision on every reachable record of one definition."""

    return explore(request.param)


def test_no_reachable_record_breaks_a_rule(edges: tuple[Edge, ...]) -> None:
    """Final states stay, nothing goes forward once turned back, COMPLETED means all done."""
    undo = {s.compensation.topic for d in DEFINITIONS.values() for s in d.steps if s.compensation}
    for before, _, decision in edges:
        if not isinstance(decision, Applied):
            continue
        saga = decision.saga
        if before is not None and before.final:
            assert (saga.state, saga.reason) == (before.state, before.reason)
        if before is not None and before.reason:
            assert saga.reason == before.reason
        if saga.reason:
            assert all(command.topic in undo for command in decision.commands)
        statuses = {record.status for record in saga.steps}
        assert all(
            step.kind is Kind.RETRIABLE or kept.status == "COMPENSATED"
            for step, kept in zip(saga.plan.steps, saga.steps, strict=True)
            if kept.skipped
        )
        if saga.state is State.COMPLETED:
            assert statuses == {"DONE"}
            assert saga.due is None
        if saga.state is State.CANCELLED and saga.settled:
            assert statuses <= {"WAITING", "FAILED", "COMPENSATED"}
        waiting_for_a_person = saga.state in (State.REVIEW, State.PARKED)
        assert saga.due is not None or saga.settled or waiting_for_a_person


def test_every_reachable_record_can_end(edges: tuple[Edge, ...]) -> None:
    """From every record, friendly answers to what is outstanding lead to a settled saga."""
    ends = {to_bytes(e.before): e.before for e in edges if e.before is not None}
    for saga in ends.values():
        current: Saga = saga
        for _ in range(12):
            if current.settled:
                break
            decision = decide(current, friendly(current), START, policy=SMALL)
            assert isinstance(decision, Applied), decision
            current = decision.saga
        assert current.settled


def friendly(saga: Saga) -> Incoming:
    """Return the event that brings a saga nearer to its end."""
    if saga.state is State.REVIEW:
        return review(approved=True) if saga.created else creation(review=True)
    index = saga.current()
    assert index is not None
    step, record = saga.plan.steps[index], saga.steps[index]
    undoing = record.status == "COMPENSATING"
    return answer(
        step,
        COMPENSATION if undoing else FORWARD,
        "OK",
        attempt=record.compensation_attempt if undoing else record.attempt,
        state_version=record.state_version + 1,
    )


def test_a_timer_fires_once_and_only_when_due() -> None:
    """An early timer is ignored, a due one counts, and its duplicate finds a newer timer."""
    saga = RECORDS["PAYMENT_PENDING"]
    assert saga is not None
    assert saga.due is not None
    assert decide(saga, timeout(saga), START) == Ignored("not_due")
    decision = decide(saga, timeout(saga), saga.due)
    assert isinstance(decision, Applied)
    assert decide(decision.saga, timeout(saga), saga.due) == Ignored("stale_timer")
