"""What the saga does, told by messages."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
import pytest

from app import ids
from app.domain.definition import COMPENSATION, DEFINITIONS, FORWARD, Definition, Kind, Policy
from app.domain.diagram import mermaid, outcomes_page
from app.domain.exploration import ORDER_ID, START, answer, cancellation, creation, review
from app.domain.record import SCHEMA
from app.domain.saga import (
    Applied,
    Command,
    Ignored,
    Illegal,
    Incoming,
    Saga,
    decide,
    from_bytes,
    next_due,
    redrive,
    status_changes,
    timeout,
    to_bytes,
)
from app.errors import Poison
from app.messages import (
    InventoryRequested,
    Item,
    OrderCancel,
    PaymentRefund,
    PaymentRequested,
    PaymentResult,
)

pytestmark = pytest.mark.unit

PAYMENT, INVENTORY, SHIPPING, COMMIT = DEFINITIONS["order.v1"].steps
POLICY = Policy(redrives_max=2, compensation_attempts_max=2)


class Story:
    """Feeds events to one saga and keeps what came of them."""

    def __init__(self, *, now: datetime = START, policy: Policy = POLICY) -> None:
        self.saga: Saga | None = None
        self.now = now
        self.policy = policy
        self.commands: list[Command] = []
        self.history: list[str] = []

    def feed(self, *events: Incoming) -> Story:
        for event in events:
            decision = decide(self.saga, event, self.now, policy=self.policy)
            assert isinstance(decision, Applied), (event.body, decision)
            self.saga = decision.saga
            self.commands += decision.commands
            self.history += [transition.event for transition in decision.transitions]
        return self

    def silence(self) -> Story:
        """Let the next deadline pass."""
        assert self.saga is not None
        assert self.saga.due is not None
        self.now = self.saga.due
        return self.feed(timeout(self.saga))

    @property
    def topics(self) -> list[str]:
        return [command.topic for command in self.commands]

    @property
    def record(self) -> Saga:
        assert self.saga is not None
        return self.saga


def ok(name: str, *, state_version: int = 1) -> Incoming:
    """Return the OK of a step's command."""
    step = next(step for step in DEFINITIONS["order.v1"].steps if step.name == name)
    return answer(step, FORWARD, "OK", state_version=state_version)


def undone(name: str, *, attempt: int = 0, state_version: int = 2) -> Incoming:
    """Return the OK of a step's compensation."""
    step = next(step for step in DEFINITIONS["order.v1"].steps if step.name == name)
    return answer(step, COMPENSATION, "OK", attempt=attempt, state_version=state_version)


def test_happy_path_sends_each_command_once_and_completes() -> None:
    """Payment, inventory, shipping, commit, COMPLETED; nothing is outstanding afterwards."""
    story = Story().feed(creation(), ok("payment"), ok("inventory"), ok("shipping"), ok("commit"))
    assert story.topics == [
        "payment.requested",
        "inventory.requested",
        "shipping.requested",
        "inventory.commit",
    ]
    assert story.record.state == "COMPLETED"
    assert story.record.settled
    assert next_due(story.record) is None


def test_history_names_cause_states_and_time() -> None:
    """A transition carries from, to, the causing event's id and the time given."""
    decision = decide(None, creation(), START)
    assert isinstance(decision, Applied)
    (line,) = decision.transitions
    assert (line.source, line.target, line.cause_id, line.at) == (
        None,
        "PAYMENT_PENDING",
        creation().event_id,
        START,
    )


def test_status_changes_tell_states_not_notes() -> None:
    """`order.status_changed` is sent for new states and not for notes such as a re-drive."""
    created = decide(None, creation(), START)
    assert isinstance(created, Applied)
    assert [body.status for body in status_changes(created)] == ["PAYMENT_PENDING"]
    due = created.saga.due
    assert due is not None
    again = decide(created.saga, timeout(created.saga), due)
    assert isinstance(again, Applied)
    assert again.transitions
    assert status_changes(again) == ()


def test_shipping_refusal_after_payment_undoes_in_reverse_order() -> None:
    """Release first, then refund, then CANCELLED with reason shipping_refused."""
    story = Story().feed(creation(), ok("payment"), ok("inventory"))
    story.feed(answer(SHIPPING, FORWARD, "REFUSED"))
    assert story.topics[-1] == "inventory.release"
    story.feed(undone("inventory"))
    assert story.topics[-1] == "payment.refund"
    assert story.record.state == "COMPENSATING"
    story.feed(undone("payment"))
    assert (story.record.state, story.record.reason) == ("CANCELLED", "shipping_refused")
    assert "shipping.cancel" not in story.topics


def test_refund_names_the_charge_it_undoes() -> None:
    """The refund carries the charge's command id, amount and currency."""
    story = Story().feed(creation(), ok("payment"), answer(INVENTORY, FORWARD, "OUT_OF_STOCK"))
    charge, refund = story.commands[0], story.commands[-1]
    assert isinstance(refund.body, PaymentRefund)
    assert refund.body.charge_id == charge.command_id
    assert (refund.body.amount_minor, refund.body.currency) == (1000, "EUR")


def test_untracked_lines_hold_no_stock() -> None:
    """An amount-only order asks inventory for no lines and goes the same way."""
    event = creation()
    item = Item(product_id="amount", quantity=1, unit_price_minor=1000, tracked=False)
    body = msgspec.structs.replace(event.body, items=[item])
    story = Story().feed(event._replace(body=body), ok("payment"))
    reserve = story.commands[-1].body
    assert isinstance(reserve, InventoryRequested)
    assert reserve.lines == []


def test_a_silent_step_is_redriven_with_the_same_id_then_compensated() -> None:
    """Two re-drives repeat the command id, later and later; the third silence turns back."""
    story = Story().feed(creation()).silence().silence()
    assert {command.command_id for command in story.commands} == {story.commands[0].command_id}
    assert len(story.commands) == 3
    assert story.now - START == timedelta(seconds=10 + 20)
    story.silence()
    assert story.topics[-1] == "payment.refund"
    assert (story.record.state, story.record.reason) == ("COMPENSATING", "timeout")


def test_not_after_is_the_moment_of_giving_up() -> None:
    """A command may start until its step would be compensated, however often it is re-driven."""
    story = Story().feed(creation()).silence().silence()
    ends = {c.body.not_after for c in story.commands if isinstance(c.body, PaymentRequested)}
    story.silence()
    assert ends == {story.now}


def test_jitter_only_lengthens_the_wait() -> None:
    """Jitter moves the deadline later, by at most the policy's share."""
    plain = decide(None, creation(), START, policy=POLICY)
    late = decide(None, creation(), START, policy=POLICY, jitter=1.0)
    assert isinstance(plain, Applied)
    assert isinstance(late, Applied)
    assert plain.saga.due == START + timedelta(seconds=10)
    assert late.saga.due == START + timedelta(seconds=12.5)


def test_retrying_moves_the_deadline_past_the_next_attempt() -> None:
    """The saga waits a full deadline beyond the participant's next attempt."""
    due_at = START + timedelta(seconds=30)
    story = Story().feed(creation(), answer(PAYMENT, FORWARD, "RETRYING", due_at=due_at))
    assert story.record.due == due_at + timedelta(seconds=10)
    assert story.record.state == "PAYMENT_PENDING"


def test_a_participant_cannot_stall_the_saga_for_ever() -> None:
    """A next attempt in the far future is waited for at most `retry_wait_max_s`."""
    far = datetime.max.replace(tzinfo=START.tzinfo)
    story = Story().feed(creation(), answer(PAYMENT, FORWARD, "RETRYING", due_at=far))
    assert story.record.due == START + timedelta(seconds=3600 + 10)


def test_parked_stops_the_deadline_and_a_later_ok_resumes() -> None:
    """A dead-lettered payment waits for an operator; the redriven OK goes on with inventory."""
    story = Story().feed(creation(), answer(PAYMENT, FORWARD, "PARKED", state_version=0))
    assert (story.record.state, story.record.due) == ("PARKED", None)
    assert redrive(story.record, START) == ()
    story.feed(ok("payment"))
    assert story.record.state == "INVENTORY_PENDING"


def test_redrive_repeats_ids_and_restamps_not_after() -> None:
    """A re-drive from storage changes no record and differs in `not_after` only."""
    story = Story().feed(creation())
    later = START + timedelta(minutes=5)
    (command,) = redrive(story.record, later, policy=POLICY)
    assert isinstance(command.body, PaymentRequested)
    assert command.command_id == story.commands[0].command_id
    assert command.body.not_after == later + timedelta(seconds=10 + 20 + 40)


def test_nothing_is_redriven_once_settled() -> None:
    """A cancelled order without open compensation has no command to repeat."""
    story = Story().feed(creation(), answer(PAYMENT, FORWARD, "DECLINED"))
    assert redrive(story.record, START) == ()


def test_unanswered_compensation_is_flagged_while_the_redrive_goes_on() -> None:
    """After its tries the order is PARKED, with a timer; the late OK still ends it."""
    story = Story().feed(creation(), ok("payment"), cancellation())
    for _ in range(3):
        story.silence()
    assert story.record.state == "PARKED"
    assert story.record.due is not None
    sent = len(story.commands)
    story.silence()
    assert len(story.commands) == sent + 1
    story.feed(undone("inventory"), undone("payment"))
    assert (story.record.state, story.record.reason) == ("CANCELLED", "customer")
    assert story.history.count("parked") == 1


def test_a_refused_compensation_is_tried_under_a_new_id() -> None:
    """Only a definite refusal makes a new command id, and only after the wait."""
    story = Story().feed(creation(), ok("payment"), answer(INVENTORY, FORWARD, "OUT_OF_STOCK"))
    story.feed(answer(PAYMENT, COMPENSATION, "DECLINED", state_version=3))
    assert story.topics.count("payment.refund") == 1
    story.silence()
    refunds = [c.command_id for c in story.commands if c.topic == "payment.refund"]
    assert refunds == [
        ids.command_id(ORDER_ID, "payment", COMPENSATION),
        ids.command_id(ORDER_ID, "payment", COMPENSATION, 1),
    ]
    late = decide(story.saga, undone("payment", state_version=4), START)
    assert late == Ignored("earlier_attempt")
    story.feed(undone("payment", attempt=1, state_version=5))
    assert story.record.state == "CANCELLED"


def test_a_dead_lettered_compensation_is_flagged_at_once() -> None:
    """PARKED by the participant flags the order and keeps its timer."""
    story = Story().feed(creation(), ok("payment"), answer(INVENTORY, FORWARD, "OUT_OF_STOCK"))
    story.feed(answer(PAYMENT, COMPENSATION, "PARKED", state_version=0))
    assert story.record.state == "PARKED"
    assert story.record.due is not None


def test_the_step_after_the_pivot_is_repeated_for_ever() -> None:
    """An unanswered commit is flagged PARKED and completes the order when it works."""
    story = Story().feed(creation(), ok("payment"), ok("inventory"), ok("shipping"))
    for _ in range(6):
        story.silence()
    assert story.record.state == "PARKED"
    assert {c.topic for c in story.commands[3:]} == {"inventory.commit"}
    story.feed(ok("commit"))
    assert story.record.state == "COMPLETED"


def test_cancel_before_creation_leaves_a_stub_that_the_creation_finds() -> None:
    """The overtaken creation is recorded and starts nothing."""
    story = Story().feed(cancellation())
    assert not story.record.created
    story.feed(creation())
    assert story.record.created
    assert story.commands == []
    assert (story.record.state, story.record.reason) == ("CANCELLED", "customer")
    assert story.history == ["cancel_requested", "cancelled", "created"]
    assert decide(story.saga, creation(), START) == Ignored("already_created")


def test_what_a_customer_writes_is_no_reason_of_an_order() -> None:
    """The status that is announced carries a word that readers know, also before the creation."""
    body = OrderCancel(order_id=ORDER_ID, reason="changed my mind")
    asked = Incoming(ids.event_id(ORDER_ID, "cancel:written"), body, ORDER_ID)
    for before in (Story(), Story().feed(creation())):
        decision = decide(before.saga, asked, START)
        assert isinstance(decision, Applied)
        assert {one.reason for one in status_changes(decision)} == {"customer"}
        assert "changed my mind" in [line.reason for line in decision.transitions]


def test_cancel_while_a_step_is_unknown_compensates_it_too() -> None:
    """The outstanding step may have happened, so its compensation is sent first."""
    story = Story().feed(creation(), ok("payment"), cancellation())
    assert story.topics[-1] == "inventory.release"
    assert story.history[-2:] == ["cancel_requested", "compensating"]


def test_cancel_after_the_pivot_is_refused_and_recorded() -> None:
    """The loser of the race reads cancel_refused; the order still completes."""
    story = Story().feed(creation(), ok("payment"), ok("inventory"), ok("shipping"))
    story.feed(cancellation())
    assert story.history[-2:] == ["cancel_requested", "cancel_refused"]
    assert decide(story.saga, cancellation("operator"), START) == Ignored("already_asked")
    story.feed(ok("commit"))
    assert story.record.state == "COMPLETED"


def test_cancel_while_already_compensating_is_recorded_and_changes_no_reason() -> None:
    """Who asks too late to matter is told; the first cause stays the reason."""
    story = Story().feed(creation(), ok("payment"), answer(INVENTORY, FORWARD, "OUT_OF_STOCK"))
    story.feed(cancellation(), undone("payment"))
    assert "cancel_requested" in story.history
    assert story.record.reason == "out_of_stock"


def test_cancel_by_an_operator_says_so() -> None:
    """The reason tells who asked."""
    assert Story().feed(creation(), cancellation("operator")).record.reason == "operator"


def test_an_order_held_for_review_charges_nothing_before_approval() -> None:
    """Approval starts the first step; rejection ends the order as fraud."""
    held = Story().feed(creation(review=True))
    assert held.commands == []
    assert held.feed(review(approved=True)).topics == ["payment.requested"]
    rejected = Story().feed(creation(review=True), review(approved=False)).record
    assert (rejected.state, rejected.reason, rejected.settled) == ("REJECTED", "fraud", True)


def test_a_review_may_overtake_the_creation() -> None:
    """Both come from the outbox, but on two topics; the verdict waits for the order."""
    approved = Story().feed(review(approved=True))
    assert (approved.record.state, approved.record.settled) == ("REVIEW", False)
    assert approved.feed(creation(review=True)).topics == ["payment.requested"]
    assert approved.record.total_minor == 1000
    rejected = Story().feed(review(approved=False), creation(review=True))
    assert (rejected.record.state, rejected.record.reason) == ("REJECTED", "fraud")
    assert rejected.record.settled
    assert rejected.commands == []


def test_a_cancelled_order_stays_so_whatever_its_review_says() -> None:
    """The customer gave up while a person was looking: what comes first is decided."""
    for first in (creation(review=True), review(approved=True)):
        story = Story().feed(first, cancellation())
        assert story.record.state == "CANCELLED"
        assert isinstance(decide(story.record, review(approved=True), START), Ignored)


def test_late_success_of_an_expired_step_is_compensated_after_the_end() -> None:
    """The order stays CANCELLED but is not settled until the late effect is undone."""
    story = Story().feed(creation(), answer(PAYMENT, FORWARD, "EXPIRED"))
    assert story.record.settled
    story.feed(ok("payment", state_version=2))
    assert (story.record.state, story.record.settled) == ("CANCELLED", False)
    assert story.topics[-1] == "payment.refund"
    story.feed(undone("payment", state_version=3))
    assert story.record.settled


def test_late_success_after_its_compensation_is_compensated_under_a_new_id() -> None:
    """A higher state version than the compensation's means that it happened afterwards."""
    story = Story().feed(creation(), cancellation(), undone("payment", state_version=1))
    assert story.record.settled
    assert decide(story.saga, ok("payment", state_version=1), START) == Ignored("stale")
    story.feed(ok("payment", state_version=2))
    assert story.commands[-1].command_id == ids.command_id(ORDER_ID, "payment", COMPENSATION, 1)
    story.feed(undone("payment", attempt=1, state_version=4))
    assert story.record.settled


def test_success_newer_than_the_confirmed_compensation_is_undone_again() -> None:
    """The success overtook the confirmation of a compensation that was carried out before it."""
    story = Story().feed(creation(), cancellation(), ok("payment", state_version=2))
    story.feed(undone("payment", state_version=1))
    assert story.commands[-1].command_id == ids.command_id(ORDER_ID, "payment", COMPENSATION, 1)


def test_late_success_waits_for_the_compensation_under_way() -> None:
    """Compensations stay one at a time, last step first."""
    story = Story().feed(creation(), ok("payment"), ok("inventory"))
    story.feed(answer(SHIPPING, FORWARD, "REFUSED"), ok("shipping", state_version=2))
    assert story.topics[-1] == "inventory.release"
    story.feed(undone("inventory"))
    assert story.topics[-1] == "shipping.cancel"


def test_results_of_other_sagas_and_unsent_commands_are_illegal() -> None:
    """A foreign command id, another order and a step not started are parked with a reason."""
    saga = Story().feed(creation()).record
    body = msgspec.structs.replace(ok("payment").body, command_id=ids.event_id(ORDER_ID, "x"))
    assert decide(saga, Incoming("e", body), START) == Illegal("foreign_command")
    assert decide(saga, ok("shipping"), START) == Illegal("step_not_started")
    other = msgspec.structs.replace(body, order_id=ids.event_id(ORDER_ID, "y"))
    assert decide(saga, Incoming("e", other), START) == Illegal("another_order")
    assert decide(saga, Incoming("e", 7), START) == Illegal("another_order")
    assert decide(None, Incoming("e", 7), START) == Illegal("not_a_saga_event")


def test_an_order_created_twice_with_another_total_is_illegal() -> None:
    """The duplicate is ignored, the contradiction is parked."""
    saga = Story().feed(creation()).record
    event = creation()
    body = msgspec.structs.replace(event.body, total_minor=1)
    assert decide(saga, event, START) == Ignored("already_created")
    assert decide(saga, event._replace(body=body), START) == Illegal("created_differently")


def test_a_running_saga_keeps_its_definition() -> None:
    """A new default order of steps changes new sagas only."""
    old = Story().feed(creation()).record
    policy = POLICY._replace(definition="order-stock-first.v1")
    moved = decide(old, ok("payment"), START, policy=policy)
    assert isinstance(moved, Applied)
    assert moved.saga.state == "INVENTORY_PENDING"
    new = decide(None, creation(), START, policy=policy)
    assert isinstance(new, Applied)
    assert new.saga.state == "INVENTORY_PENDING"
    assert new.commands[0].topic == "inventory.requested"


def test_an_unknown_definition_is_illegal_and_unreadable() -> None:
    """Code that does not know a definition touches no saga of it."""
    saga = msgspec.structs.replace(Story().feed(creation()).record, definition="order.v9")
    assert decide(saga, ok("payment"), START) == Illegal("unknown_definition")
    with pytest.raises(Poison, match="unknown_schema"):
        from_bytes(to_bytes(saga))


def test_bytes_round_trip_and_refuse_other_schemas() -> None:
    """What is stored is read back equal; junk and later schemas are Poison."""
    saga = Story().feed(creation(), ok("payment")).record
    assert from_bytes(to_bytes(saga)) == saga
    with pytest.raises(Poison, match="unknown_schema"):
        from_bytes(to_bytes(msgspec.structs.replace(saga, schema=SCHEMA + 1)))
    for junk in (b"", b"\xff\xff", b"\x93\x01"):
        with pytest.raises(Poison, match="unknown_schema"):
            from_bytes(junk)


def test_bytes_with_appended_fields_are_readable() -> None:
    """Older code ignores fields that newer code appends."""
    saga = Story().feed(creation()).record
    newer = [*msgspec.msgpack.decode(to_bytes(saga)), "a later field"]
    assert from_bytes(msgspec.msgpack.encode(newer)) == saga


def test_golden_bytes_of_schema_1_stay_readable() -> None:
    """Bytes written by the first release are read by this one."""
    raw = bytes.fromhex(GOLDEN_SCHEMA_1)
    saga = from_bytes(raw)
    assert (saga.state, saga.version, saga.total_minor) == ("INVENTORY_PENDING", 2, 1000)
    assert (saga.redrives, [step.skipped for step in saga.steps]) == (0, [False] * 4)
    assert from_bytes(to_bytes(saga)) == saga


def test_timer_ids_depend_on_order_step_and_number_only() -> None:
    """A timer that fires on two workers is one event."""
    saga = Story().feed(creation()).record
    assert timeout(saga).event_id == ids.timeout_id(ORDER_ID, "payment", saga.timer)
    with pytest.raises(ValueError, match="no timer"):
        timeout(Story().feed(cancellation()).record)


def test_definitions_are_sound() -> None:
    """Every definition has one pivot, undoable steps before it, repeatable ones after it."""
    assert [definition.problem() for definition in DEFINITIONS.values()] == ["", ""]


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        pytest.param((PAYMENT, COMMIT), "exactly one", id="no-pivot"),
        pytest.param((COMMIT, SHIPPING), "before the pivot", id="retriable-first"),
        pytest.param((SHIPPING, PAYMENT), "after the pivot", id="compensatable-last"),
        pytest.param(
            (PAYMENT._replace(compensation=None), SHIPPING), "a compensation", id="no-undo"
        ),
    ],
)
def test_unsound_definitions_are_told(steps: tuple[object, ...], problem: str) -> None:
    """A definition that cannot be compensated or completed is named as such."""
    assert problem in Definition("x", steps).problem()  # type: ignore[arg-type]


def test_kinds_divide_at_the_pivot() -> None:
    """Shipping is the pivot of the default order."""
    kinds = [step.kind for step in DEFINITIONS["order.v1"].steps]
    assert kinds == [Kind.COMPENSATABLE, Kind.COMPENSATABLE, Kind.PIVOT, Kind.RETRIABLE]


def test_diagrams_show_every_reachable_state() -> None:
    """An edge is named by what leads along it."""
    assert "SHIPPING_PENDING --> COMMIT_PENDING: ship OK" in mermaid()


def test_the_page_of_outcomes_answers_the_question_of_the_readme() -> None:
    """A reader finds what happens when shipping refuses after payment."""
    row = next(line for line in outcomes_page().splitlines() if "shipping refuses after" in line)
    assert "CANCELLED | shipping_refused | `inventory.release`, `payment.refund`" in row


def test_a_result_read_from_the_wire_is_what_decide_takes() -> None:
    """No conversion stands between a decoded body and the saga."""
    assert isinstance(ok("payment").body, PaymentResult)


GOLDEN_SCHEMA_1 = (
    "dc001501a86f726465722e7631d92435623866373162372d366533612d356231662d623232352d61"
    "656561316231363438353802b1494e56454e544f52595f50454e44494e47a09495a4444f4e450000"
    "01a095a453454e54000000a095a757414954494e47000000a095a757414954494e47000000a0cd03"
    "e8a34555529192a3736b7501c0d6ff6955b90a0200a0c3c2d92435623866373162372d366533612d"
    "356231662d623232352d616565613162313634383538a0d6ff6955b900d6ff6955b900"
)
