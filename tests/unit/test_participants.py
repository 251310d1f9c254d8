"""What payment, inventory and shipping decide, alone and in any order."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import ids
from app.domain import inventory, payment, shipping
from app.domain.exploration import ORDER_ID, START
from app.domain.inventory import Reservation, Stock
from app.errors import Overtaken, Poison
from app.messages import (
    InventoryCommit,
    InventoryRelease,
    InventoryRequested,
    PaymentRefund,
    PaymentRequested,
    ShippingCancel,
    ShippingRequested,
    StockLine,
)

pytestmark = pytest.mark.unit

LATER = START + timedelta(minutes=1)
CHARGE_ID = ids.command_id(ORDER_ID, "payment", "forward")
REFUND_ID = ids.command_id(ORDER_ID, "payment", "compensation")
CHARGE = PaymentRequested(order_id=ORDER_ID, amount_minor=500, currency="EUR", not_after=LATER)
REFUND = PaymentRefund(order_id=ORDER_ID, amount_minor=500, currency="EUR", charge_id=CHARGE_ID)
CHARGED = payment.Charged("pay_1")


def charged() -> payment.Attempt:
    """Return a captured charge."""
    intent = payment.begin(None, CHARGE_ID, CHARGE, START).attempt
    return payment.complete(intent, CHARGE_ID, CHARGE, CHARGED).attempt


def test_a_charge_is_an_intent_before_it_is_a_call() -> None:
    """The key of the call is the command id, and the result waits for the reply."""
    decision = payment.begin(None, CHARGE_ID, CHARGE, START)
    assert decision.attempt.status == "INTENT"
    assert decision.result is None
    assert decision.call == payment.Charge(CHARGE_ID, ORDER_ID, 500, "EUR")


def test_an_intent_found_again_calls_with_the_same_key() -> None:
    """A crash between intent and reply repeats the call, and nothing is recorded twice."""
    first = payment.begin(None, CHARGE_ID, CHARGE, START)
    late = START + timedelta(days=1)
    assert payment.begin(first.attempt, CHARGE_ID, CHARGE, late) == first


@pytest.mark.parametrize(
    ("reply", "status", "outcome"),
    [
        pytest.param(CHARGED, "CHARGED", "OK", id="captured"),
        pytest.param(payment.Declined("card"), "DECLINED", "DECLINED", id="declined"),
        pytest.param(payment.KeyCancelled(), "CANCELLED", "CANCELLED", id="key cancelled"),
    ],
)
def test_the_reply_decides_a_charge(reply: payment.Reply, status: str, outcome: str) -> None:
    """Each reply is recorded once, with a higher state version."""
    intent = payment.begin(None, CHARGE_ID, CHARGE, START).attempt
    decision = payment.complete(intent, CHARGE_ID, CHARGE, reply)
    assert decision.result is not None
    assert (decision.attempt.status, decision.result.outcome) == (status, outcome)
    assert decision.attempt.version == decision.result.state_version == 2


def test_the_loser_of_a_race_repeats_what_the_winner_recorded() -> None:
    """A second completion changes nothing and answers the same."""
    done = payment.complete(charged(), CHARGE_ID, CHARGE, payment.Declined("late"))
    assert done.attempt == charged()
    assert done.result is not None
    assert done.result.outcome == "OK"


def test_a_charge_past_its_time_expires_unless_it_has_begun() -> None:
    """EXPIRED leaves a tombstone; an INTENT is pursued whatever the time."""
    decision = payment.begin(None, CHARGE_ID, CHARGE, LATER + timedelta(seconds=1))
    assert decision.attempt.status == "EXPIRED"
    assert decision.result is not None
    assert decision.result.outcome == "EXPIRED"
    assert payment.begin(decision.attempt, CHARGE_ID, CHARGE, START).result == decision.result


def test_a_refund_before_its_charge_leaves_a_tombstone() -> None:
    """The late charge finds it and is answered CANCELLED, without a call."""
    refund = payment.begin(None, REFUND_ID, REFUND, START)
    assert refund.result is not None
    assert refund.result.outcome == "OK"
    charge = payment.begin(refund.attempt, CHARGE_ID, CHARGE, START)
    assert charge.call is None
    assert charge.result is not None
    assert charge.result.outcome == "CANCELLED"


def test_a_refund_of_an_intent_cancels_the_key_first() -> None:
    """Nobody knows whether the charge was made: its key is cancelled, then what was captured."""
    intent = payment.begin(None, CHARGE_ID, CHARGE, START).attempt
    refund = payment.begin(intent, REFUND_ID, REFUND, START)
    assert refund.call == payment.Refund(REFUND_ID, ORDER_ID, CHARGE_ID, cancel_first=True)
    again = payment.begin(refund.attempt, CHARGE_ID, CHARGE, START)
    assert again.call is None
    late = payment.complete(refund.attempt, CHARGE_ID, CHARGE, CHARGED)
    assert late.attempt == refund.attempt
    assert late.result is not None
    assert late.result.outcome == "CANCELLED"


@pytest.mark.parametrize(
    ("reply", "status"),
    [(payment.Refunded(), "REFUNDED"), (payment.NothingCaptured(), "CANCELLED")],
)
def test_an_undone_intent_is_confirmed(reply: payment.Reply, status: str) -> None:
    """Given back or never captured: the compensation is OK either way."""
    intent = payment.begin(None, CHARGE_ID, CHARGE, START).attempt
    cancelling = payment.begin(intent, REFUND_ID, REFUND, START).attempt
    decision = payment.complete(cancelling, REFUND_ID, REFUND, reply)
    assert decision.result is not None
    assert (decision.attempt.status, decision.result.outcome) == (status, "OK")


def test_a_captured_charge_is_refunded_once() -> None:
    """A repeated refund command repeats the answer, a redelivered one the same call."""
    refund = payment.begin(charged(), REFUND_ID, REFUND, START)
    assert refund.call == payment.Refund(REFUND_ID, ORDER_ID, CHARGE_ID, cancel_first=False)
    assert payment.begin(refund.attempt, REFUND_ID, REFUND, START) == refund
    done = payment.complete(refund.attempt, REFUND_ID, REFUND, payment.Refunded())
    repeated = payment.begin(done.attempt, REFUND_ID, REFUND, START)
    assert (repeated.call, repeated.result) == (None, done.result)


def test_a_refused_refund_still_owes_the_money() -> None:
    """The answer is DECLINED, and a new command makes a new call."""
    refund = payment.begin(charged(), REFUND_ID, REFUND, START)
    refused = payment.complete(refund.attempt, REFUND_ID, REFUND, payment.Declined("later"))
    assert refused.result is not None
    assert (refused.attempt.status, refused.result.outcome) == ("CHARGED", "DECLINED")
    again = payment.begin(refused.attempt, CHARGE_ID[::-1], REFUND, START)
    assert isinstance(again.call, payment.Refund)
    assert again.call.key == CHARGE_ID[::-1]


def test_another_amount_is_poison() -> None:
    """A command that contradicts the recorded attempt is parked."""
    for body in (CHARGE, REFUND):
        other: Any = msgspec.structs.replace(body, amount_minor=501)
        with pytest.raises(Poison, match="bad_command"):
            payment.begin(charged(), CHARGE_ID, other, START)


def test_replies_of_the_other_operation_are_programming_errors() -> None:
    """A charge is not answered by a refund, nor the other way round."""
    intent = payment.begin(None, CHARGE_ID, CHARGE, START).attempt
    with pytest.raises(TypeError):
        payment.complete(intent, CHARGE_ID, CHARGE, payment.Refunded())
    refunding = payment.begin(charged(), REFUND_ID, REFUND, START).attempt
    with pytest.raises(TypeError):
        payment.complete(refunding, REFUND_ID, REFUND, CHARGED)


@pytest.mark.parametrize("module", [payment, inventory, shipping])
def test_notices_say_what_is_retried_or_parked(module: Any) -> None:
    """RETRYING has a next attempt, PARKED none; neither has a state version."""
    body = {payment: CHARGE, inventory: RESERVE, shipping: SHIP}[module]
    retrying = module.notice("id", body, "RETRYING", reason="x" * 500, due_at=LATER)
    parked = module.notice("id", body, "PARKED", reason="gateway_timeout")
    assert (retrying.outcome, retrying.due_at, len(retrying.reason)) == ("RETRYING", LATER, 200)
    assert (parked.outcome, parked.due_at, parked.state_version) == ("PARKED", None, 0)


# -- inventory -----------------------------------------------------------------------------------

RESERVE = InventoryRequested(
    order_id=ORDER_ID,
    lines=[
        StockLine(sku="b", quantity=1),
        StockLine(sku="a", quantity=2),
        StockLine(sku="b", quantity=2),
    ],
    not_after=LATER,
)
RELEASE = InventoryRelease(order_id=ORDER_ID)
COMMIT = InventoryCommit(order_id=ORDER_ID)
STOCK = {"a": Stock("a", 5, 0, 0), "b": Stock("b", 3, 0, 0)}


def test_all_lines_are_held_or_none() -> None:
    """Lines of one SKU are added up; one missing unit refuses the whole order."""
    held = inventory.decide(None, STOCK, "c", RESERVE, START)
    assert held.result.outcome == "OK"
    assert held.stock == (Stock("a", 3, 2, 0), Stock("b", 0, 3, 0))
    short = {**STOCK, "b": Stock("b", 2, 0, 0)}
    refused = inventory.decide(None, short, "c", RESERVE, START)
    assert (refused.result.outcome, refused.stock) == ("OUT_OF_STOCK", ())
    assert refused.result.reason == "out_of_stock:b"


def test_an_unknown_sku_is_out_of_stock() -> None:
    """What is not in the catalogue cannot be held."""
    refused = inventory.decide(None, {"a": STOCK["a"]}, "c", RESERVE, START)
    assert (refused.result.outcome, refused.result.reason) == ("OUT_OF_STOCK", "unknown_sku:b")


def test_an_order_without_tracked_lines_is_held() -> None:
    """Amount-only orders touch no stock on any of their ways."""
    body = msgspec.structs.replace(RESERVE, lines=[])
    held = inventory.decide(None, {}, "c", body, START)
    assert (held.result.outcome, held.stock) == ("OK", ())
    for after in (RELEASE, COMMIT):
        decision = inventory.decide(held.reservation, {}, "d", after, START)
        assert (decision.result.outcome, decision.stock) == ("OK", ())


def test_reservations_expire_before_they_start() -> None:
    """Past `not_after` nothing is held, and the tombstone answers every repeat."""
    late = inventory.decide(None, STOCK, "c", RESERVE, LATER + timedelta(seconds=1))
    assert (late.result.outcome, late.stock) == ("EXPIRED", ())
    assert inventory.decide(late.reservation, STOCK, "c", RESERVE, START).result == late.result


def test_release_and_commit_move_what_was_held() -> None:
    """Release gives back, commit consumes, both once."""
    held = inventory.decide(None, STOCK, "c", RESERVE, START)
    rows = {row.sku: row for row in held.stock}
    released = inventory.decide(held.reservation, rows, "d", RELEASE, START)
    assert {row.sku: row for row in released.stock} == STOCK
    assert inventory.decide(released.reservation, rows, "d", RELEASE, START).stock == ()
    committed = inventory.decide(held.reservation, rows, "e", COMMIT, START)
    assert committed.stock == (Stock("a", 3, 0, 2), Stock("b", 0, 0, 3))
    assert inventory.decide(committed.reservation, rows, "e", COMMIT, START).stock == ()


def test_what_was_committed_is_not_released_nor_the_reverse() -> None:
    """Either contradiction is REFUSED and moves nothing."""
    held = inventory.decide(None, STOCK, "c", RESERVE, START)
    rows = {row.sku: row for row in held.stock}
    committed = inventory.decide(held.reservation, rows, "e", COMMIT, START).reservation
    released = inventory.decide(held.reservation, rows, "d", RELEASE, START).reservation
    assert inventory.decide(committed, rows, "d", RELEASE, START).result.outcome == "REFUSED"
    assert inventory.decide(released, rows, "e", COMMIT, START).result.outcome == "REFUSED"


def test_a_commit_that_overtakes_its_reservation_is_tried_later() -> None:
    """It did not happen, and it may yet: a retry tier, not a refusal."""
    with pytest.raises(Overtaken):
        inventory.decide(None, STOCK, "e", COMMIT, START)


@pytest.mark.parametrize(
    ("before", "taken", "level"),
    [
        pytest.param(50, 1, "low", id="below 50"),
        pytest.param(51, 1, None, id="at 50"),
        pytest.param(10, 1, "critical", id="below 10"),
        pytest.param(60, 55, "critical", id="through both"),
        pytest.param(9, 1, None, id="already low"),
    ],
)
def test_a_warning_is_given_when_a_threshold_is_crossed(
    before: int, taken: int, level: str | None
) -> None:
    """Once per crossing, with the lowest threshold crossed."""
    body = msgspec.structs.replace(RESERVE, lines=[StockLine(sku="a", quantity=taken)])
    decision = inventory.decide(None, {"a": Stock("a", before, 3, 200)}, "c", body, START)
    assert [warning.level for warning in decision.low] == ([level] if level else [])
    assert all(warning.restocked == before + 203 for warning in decision.low)


def test_a_batch_decides_in_order_and_writes_each_sku_once() -> None:
    """Ten orders for three units: the first three get them, and one row is left to write."""
    orders = [ids.uuid5(ORDER_ID, str(n)) for n in range(10)]
    lines = [StockLine(sku="a", quantity=1)]
    commands = [
        (order, InventoryRequested(order_id=order, lines=lines, not_after=LATER))
        for order in orders
    ]
    batch = inventory.decide_batch({}, {"a": Stock("a", 3, 0, 0)}, commands, START)
    outcomes = [decision.result.outcome for decision in batch.decisions]
    assert outcomes == ["OK"] * 3 + ["OUT_OF_STOCK"] * 7
    assert batch.stock == {"a": Stock("a", 0, 3, 0)}
    assert set(batch.reservations) == set(orders)


def test_a_command_and_its_compensation_may_stand_in_one_batch() -> None:
    """The release sees the reservation made a moment before, and the stock is whole again."""
    batch = inventory.decide_batch({}, STOCK, [("c", RESERVE), ("d", RELEASE)], START)
    assert batch.stock == STOCK
    assert batch.reservations[ORDER_ID].status == "RELEASED"


def test_only_requests_ask_for_stock() -> None:
    """A release and a commit touch what their reservation holds."""
    assert inventory.requested_skus([("c", RESERVE), ("d", RELEASE)]) == {"a", "b"}


COMMANDS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["reserve", "release", "commit"])), max_size=25
)


@settings(max_examples=150, deadline=None)
@given(commands=COMMANDS, available=st.integers(0, 4))
def test_stock_is_conserved_whatever_the_commands(
    commands: list[tuple[int, str]], available: int
) -> None:
    """Never negative, never more or less, and held stock is what live reservations say."""
    stock = {"a": Stock("a", available, 0, 0)}
    reservations: dict[str, Reservation] = {}
    for number, operation in commands:
        order = ids.uuid5(ORDER_ID, str(number))
        lines = [StockLine(sku="a", quantity=1 + number % 2)]
        bodies: dict[str, inventory.Command] = {
            "reserve": InventoryRequested(order_id=order, lines=lines, not_after=LATER),
            "release": InventoryRelease(order_id=order),
            "commit": InventoryCommit(order_id=order),
        }
        body = bodies[operation]
        if operation == "commit" and order not in reservations:
            continue
        batch = inventory.decide_batch(reservations, stock, [("c", body)], START)
        reservations |= batch.reservations
        stock |= batch.stock
    row = stock["a"]
    assert min(row.available, row.held, row.consumed) >= 0
    assert row.available + row.held + row.consumed == available
    held = [r.lines[0][1] for r in reservations.values() if r.status == "HELD"]
    assert row.held == sum(held)


# -- shipping ------------------------------------------------------------------------------------

SHIP = ShippingRequested(order_id=ORDER_ID, address="Main street 1, AT", not_after=LATER)
CANCEL = ShippingCancel(order_id=ORDER_ID)
SHIP_ID = ids.command_id(ORDER_ID, "shipping", "forward")
VOID_ID = ids.command_id(ORDER_ID, "shipping", "compensation")


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        pytest.param(None, "", id="none"),
        pytest.param("Main street 1, Vienna, AT", "", id="served"),
        pytest.param("Refuse road 1", "address_refused", id="word"),
        pytest.param("Base 1, AQ", "country_not_served:AQ", id="country"),
        pytest.param("AQ street 1, AT", "", id="country only at the end"),
    ],
)
def test_addresses_are_refused_by_the_rules(address: str | None, reason: str) -> None:
    """The rules are data; a refused order has no shipment."""
    decision = shipping.decide(None, SHIP_ID, msgspec.structs.replace(SHIP, address=address), START)
    assert decision.result.reason == reason
    assert decision.result.outcome == ("REFUSED" if reason else "OK")
    assert bool(decision.result.shipment_id) == (not reason)


def test_rules_can_be_given() -> None:
    """Another lesson refuses other words."""
    rules = shipping.Rules(words=frozenset({"MAIN"}))
    assert shipping.decide(None, SHIP_ID, SHIP, START, rules).result.outcome == "REFUSED"


def test_a_shipment_expires_before_it_starts() -> None:
    """Past `not_after` nothing is shipped, then or later."""
    late = shipping.decide(None, SHIP_ID, SHIP, LATER + timedelta(seconds=1))
    assert late.result.outcome == "EXPIRED"
    assert shipping.decide(late.shipment, SHIP_ID, SHIP, START).result == late.result


def test_a_cancelled_shipment_is_voided_and_stays_so() -> None:
    """The late ship command finds the cancellation, whichever came first."""
    shipped = shipping.decide(None, SHIP_ID, SHIP, START)
    assert shipping.decide(shipped.shipment, SHIP_ID, SHIP, START).result == shipped.result
    voided = shipping.decide(shipped.shipment, VOID_ID, CANCEL, START)
    assert (voided.shipment.status, voided.result.state_version) == ("CANCELLED", 2)
    assert shipping.decide(voided.shipment, SHIP_ID, SHIP, START).result.outcome == "CANCELLED"
    first = shipping.decide(None, VOID_ID, CANCEL, START)
    assert shipping.decide(first.shipment, SHIP_ID, SHIP, START).result.outcome == "CANCELLED"


# -- order does not matter -------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(itertools.permutations(["charge", "refund", "charge"])))
def test_charge_and_refund_end_alike_in_any_order(order: tuple[str, ...]) -> None:
    """Nothing is kept, however the command and its compensation arrive."""
    attempt: payment.Attempt | None = None
    kept = 0
    for operation in order:
        command_id = CHARGE_ID if operation == "charge" else REFUND_ID
        body: payment.Command = CHARGE if operation == "charge" else REFUND
        decision = payment.begin(attempt, command_id, body, START)
        attempt = decision.attempt
        if decision.call is not None:
            charge = isinstance(decision.call, payment.Charge)
            kept += 500 if charge else -500
            reply: payment.Reply = CHARGED if charge else payment.Refunded()
            attempt = payment.complete(attempt, command_id, body, reply).attempt
    assert attempt is not None
    assert (kept, attempt.status in ("REFUNDED", "CANCELLED")) == (0, True)


@pytest.mark.parametrize("order", list(itertools.permutations([RESERVE, RELEASE, RESERVE])))
def test_reserve_and_release_end_alike_in_any_order(order: tuple[inventory.Command, ...]) -> None:
    """The stock is whole and the order holds nothing."""
    batch = inventory.decide_batch({}, STOCK, [("c", body) for body in order], START)
    assert STOCK | batch.stock == STOCK
    assert batch.reservations[ORDER_ID].status == "RELEASED"


@pytest.mark.parametrize("order", list(itertools.permutations([SHIP, CANCEL, SHIP])))
def test_ship_and_cancel_end_alike_in_any_order(order: tuple[shipping.Command, ...]) -> None:
    """No shipment is left."""
    shipment: shipping.Shipment | None = None
    for body in order:
        shipment = shipping.decide(shipment, SHIP_ID, body, START).shipment
    assert shipment is not None
    assert shipment.status == "CANCELLED"
