"""A whole platform in one object: orchestrator, three participants, gateway, and a bad network.

Every choice (what is delivered, lost, duplicated, where a process crashes, which earlier state
the table falls back to) is taken by `choose(n)`, so a run is a function of its choices. The
participants' stores and `authority` play PostgreSQL; `table` plays the changelog-backed working
copy. `bugs` plants defects that the checks must find.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

import msgspec

from app import ids
from app.domain import inventory, payment, shipping
from app.domain.operations import ACTIONS, EVENTS, OPERATED, possible
from app.domain.saga import (
    Applied,
    Decision,
    Incoming,
    Policy,
    Saga,
    decide,
    from_bytes,
    redrive,
    timeout,
    to_bytes,
)
from app.messages import (
    InventoryCommit,
    InventoryRelease,
    InventoryRequested,
    Item,
    OrderCancel,
    OrderCreated,
    OrderOperate,
    PaymentRefund,
    PaymentRequested,
    ShippingCancel,
    ShippingRequested,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
TOTAL = 1000
FAILURES_MAX = 2
DRAIN_ROUNDS_MAX = 400


class Message(NamedTuple):
    """A record in flight; `failures` is how often a participant failed on it."""

    event_id: str
    body: Any
    failures: int = 0


class Violation(AssertionError):
    """The world broke a promise."""


class Gateway:
    """The payment provider: what it captured and gave back, by idempotency key."""

    def __init__(self, declined: set[str]) -> None:
        self.declined = declined
        self.captured: dict[str, str] = {}
        self.refunded: set[str] = set()
        self.cancelled: set[str] = set()
        self.refused: set[str] = set()

    def charge(self, call: payment.Charge) -> payment.Reply:
        if call.key in self.cancelled:
            return payment.KeyCancelled()
        if call.order_id in self.declined:
            self.refused.add(call.key)
            return payment.Declined("card_declined")
        self.captured[call.key] = call.order_id
        return payment.Charged(f"pay_{call.key[:8]}")

    def cancel(self, key: str) -> bool:
        """Cancel a key; tells whether it had been captured before."""
        if key in self.captured:
            return True
        if key not in self.refused:
            self.cancelled.add(key)
        return False

    def refund(self, charge_key: str) -> payment.Reply:
        self.refunded.add(charge_key)
        return payment.Refunded()

    def balance(self, order_id: str) -> int:
        kept = [k for k, o in self.captured.items() if o == order_id and k not in self.refunded]
        return TOTAL * len(kept)


class World:
    """Some orders for one scarce SKU, and everything that can go wrong with them."""

    def __init__(
        self,
        choose: Callable[[int], int],
        *,
        orders: int = 2,
        bugs: frozenset[str] = frozenset(),
        definition: str = "order.v1",
    ) -> None:
        self.choose = choose
        self.bugs = bugs
        self.policy = Policy(redrives_max=2, compensation_attempts_max=3, definition=definition)
        self.now = START
        self.orders = [ids.uuid5(ids.uuid5("0" * 32, "world"), str(n)) for n in range(orders)]
        self.bag: list[Message] = []
        self.dead: list[Message] = []
        self.authority: dict[str, bytes] = {}
        self.past: dict[str, list[bytes]] = {}
        self.table: dict[str, bytes] = {}
        self.inboxes: dict[str, dict[str, list[Message]]] = {}
        self.illegal: list[tuple[str, str]] = []
        self.attempts: dict[str, payment.Attempt] = {}
        self.replied: list[tuple[Message, payment.Reply]] = []
        self.reservations: dict[str, inventory.Reservation] = {}
        self.initial_stock = choose(3)
        self.stock = {"sku": inventory.Stock("sku", self.initial_stock, 0, 0)}
        self.shipments: dict[str, shipping.Shipment] = {}
        self.undone: set[str] = set()
        self.calls = 0
        declined = {order for order in self.orders if choose(5) == 0}
        self.gateway = Gateway(declined)
        self.cancelled_by: set[str] = set()
        self.waived: set[tuple[str, str]] = set()
        self.operations: set[str] = set()
        for order in self.orders:
            self._order(order)

    def _order(self, order: str) -> None:
        address = ("Street 1", "REFUSE street", None)[self.choose(3)]
        tracked = self.choose(4) > 0
        body = OrderCreated(
            order_id=order,
            customer_id="c",
            items=[Item(product_id="sku", quantity=1, unit_price_minor=TOTAL, tracked=tracked)],
            total_minor=TOTAL,
            currency="EUR",
            shipping_address=address,
            created_at=START,
        )
        self.bag.append(Message(ids.event_id(order, "created"), body))

    # -- one random step ---------------------------------------------------------------------

    def step(self) -> None:
        """Do one thing that may happen at this moment."""
        actions: list[Callable[[], None]] = [self.tick, self.cancel, self.regress, self.idle]
        actions.append(self.operate)
        if self.bag:
            actions += [self.deliver, self.deliver, self.deliver, self.deliver, self.lose]
        if self.dead:
            actions.append(self.operator_redrives)
        if self.replied:
            actions += [self.complete_payment, self.complete_payment, self.crash_payment]
        actions[self.choose(len(actions))]()
        self.check_always()

    def deliver(self) -> None:
        """Deliver any record in flight, perhaps keeping it in flight as well."""
        index = self.choose(len(self.bag))
        message = self.bag[index]
        if self.choose(4) > 0:
            del self.bag[index]
        self.handle(message)

    def lose(self) -> None:
        """Lose a record that something re-drives."""
        index = self.choose(len(self.bag))
        if not isinstance(self.bag[index].body, OrderCreated | OrderCancel | OrderOperate):
            del self.bag[index]

    def tick(self) -> None:
        """Let time pass, and fire what is due by the working copy."""
        self.now += timedelta(seconds=(1, 11, 25, 60)[self.choose(4)])
        self.fire()

    def fire(self) -> None:
        for order in self.orders:
            saga = self.copy(order)
            if saga is not None and saga.due is not None and saga.due <= self.now:
                event = timeout(saga)
                self.orchestrate(Message(event.event_id, event.body))

    def idle(self) -> None:
        """Re-drive a saga without a transition from the authority."""
        raw = self.authority.get(self.orders[self.choose(len(self.orders))])
        if raw is not None:
            for command in redrive(from_bytes(raw), self.now, policy=self.policy):
                self.bag.append(Message(command.command_id, command.body))

    def cancel(self) -> None:
        """Let the customer cancel, at most once per order."""
        order = self.orders[self.choose(len(self.orders))]
        if order not in self.cancelled_by and self.choose(12) == 0:
            self.cancelled_by.add(order)
            self.bag.append(Message(ids.event_id(order, "cancel"), OrderCancel(order_id=order)))

    def regress(self) -> None:
        """The working copy of one order falls back to any earlier state, or is lost."""
        order = self.orders[self.choose(len(self.orders))]
        past = self.past.get(order, [])
        index = self.choose(len(past) + 1)
        if index == len(past):
            self.table.pop(order, None)
        else:
            self.table[order] = past[index]

    def operator_redrives(self) -> None:
        """Send a dead letter back, with a new `not_after` when it has one."""
        message = self.dead.pop(self.choose(len(self.dead)))
        body = message.body
        if hasattr(body, "not_after"):
            body = msgspec.structs.replace(body, not_after=self.now + timedelta(seconds=60))
        self.bag.append(Message(message.event_id, body))

    def operator_retries(self) -> None:
        """Send the command of every parked order again."""
        for saga in self.sagas():
            if saga is not None and saga.state == "PARKED":
                self.orchestrate(self.operation(saga, "retry", saga.version))

    def operate(self) -> None:
        """Let an operator do anything to any order, having looked at it now or earlier."""
        raw = self.authority.get(self.orders[self.choose(len(self.orders))])
        if raw is not None and self.choose(2) == 0:
            saga = from_bytes(raw)
            seen = saga.version - (self.choose(4) == 0)
            actions = possible(saga) if self.choose(4) else ACTIONS
            if actions:
                action = actions[self.choose(len(actions))]
                message = self.operation(saga, action, seen)
                self.orchestrate(message) if self.choose(2) else self.bag.append(message)

    def operation(self, saga: Saga, action: Any, version: int) -> Message:
        body = OrderOperate(
            order_id=saga.order_id, action=action, expected_version=version, reason="stuck"
        )
        return Message(ids.event_id(saga.order_id, f"operate:{action}:{version}"), body)

    # -- the orchestrator --------------------------------------------------------------------

    def copy(self, order: str) -> Saga | None:
        raw = self.table.get(order)
        return None if raw is None else from_bytes(raw)

    def handle(self, message: Message) -> None:
        body = message.body
        if isinstance(body, PaymentRequested | PaymentRefund):
            self.begin_payment(message)
        elif isinstance(body, InventoryRequested | InventoryRelease | InventoryCommit):
            self.inventory(message)
        elif isinstance(body, ShippingRequested | ShippingCancel):
            self.shipping(message)
        else:
            self.orchestrate(message)

    def orchestrate(self, message: Message) -> None:
        """Decide on the working copy, store under the authority's version guard, then send."""
        if self.repeat("orchestrator", message):
            return
        order = message.body.order_id
        decision = self.decide(self.copy(order), message)
        raw = self.authority.get(order)
        authority = None if raw is None else from_bytes(raw)
        held = self.copy(order)
        stale = (authority.version if authority else 0) != (held.version if held else 0)
        if stale and not self.tolerated(decision):
            decision = self.decide(authority, message)
        outputs: list[Message] = []
        if isinstance(decision, Applied):
            outputs = [Message(c.command_id, c.body) for c in decision.commands]
            self.authority[order] = to_bytes(decision.saga)
            self.past.setdefault(order, []).append(self.authority[order])
            self.operated(order, decision)
        elif type(decision).__name__ == "Illegal":
            self.illegal.append((type(message.body).__name__, decision.reason))
        self.finish("orchestrator", message, outputs)
        current = self.authority.get(order)
        if current is not None and self.choose(8) > 0:
            self.table[order] = current

    def decide(self, saga: Saga | None, message: Message) -> Decision:
        event = Incoming(message.event_id, message.body, message.event_id)
        return decide(saga, event, self.now, policy=self.policy, jitter=self.choose(3) / 2)

    def operated(self, order: str, decision: Applied) -> None:
        """Note what operators did, and what they have waived."""
        for line in decision.transitions:
            if line.event in OPERATED:
                self.operations.add(line.event)
            if line.event == EVENTS["skip"]:
                self.waived.add((order, line.reason.partition(" ")[0]))

    def tolerated(self, decision: Decision) -> bool:
        """Whether a planted bug lets a decision on a stale copy stand."""
        if isinstance(decision, Applied):
            return "no_version_guard" in self.bugs
        return "stale_copy_believed" in self.bugs

    # -- inbox -------------------------------------------------------------------------------

    def repeat(self, consumer: str, message: Message) -> bool:
        """Send the stored outputs again when the event is already finished here."""
        stored = self.inboxes.setdefault(consumer, {}).get(message.event_id)
        if stored is None or "no_inbox" in self.bugs:
            return False
        if "no_stored_outputs" not in self.bugs:
            self.bag += stored
        return True

    def finish(self, consumer: str, message: Message, outputs: list[Message]) -> None:
        """Commit the inbox row; a crash right after it leaves the outputs to the redelivery."""
        self.inboxes.setdefault(consumer, {})[message.event_id] = outputs
        if self.choose(8) == 0 and not isinstance(message.body, str):
            self.bag.append(message)
        else:
            self.bag += outputs

    def result(self, body: Any) -> Message:
        if "one_result_id" in self.bugs:
            return Message(ids.event_id(body.command_id, "result"), body)
        return Message(ids.result_id(body.command_id, body.state_version), body)

    # -- payment: apply - call - apply -------------------------------------------------------

    def begin_payment(self, message: Message) -> None:
        if self.repeat("payment", message):
            return
        order, body = message.body.order_id, message.body
        attempt = self.attempts.get(order)
        decision = payment.begin(attempt, message.event_id, body, self.now)
        forgotten = attempt is None and isinstance(body, PaymentRefund)
        if not (forgotten and "no_payment_tombstone" in self.bugs):
            self.attempts[order] = decision.attempt
        if decision.result is not None:
            self.finish("payment", message, [self.result(decision.result)])
            self.confirmed(decision.result)
            return
        fate = self.choose(6)
        if fate == 0:  # crash before the call
            self.bag.append(message)
        elif fate == 1:  # the gateway is away
            self.payment_failed(message)
        else:
            assert decision.call is not None
            reply = self.call(decision.call, lost_half=fate == 2)
            if reply is None or fate == 3:  # it happened, but nobody heard
                self.payment_failed(message)
            else:
                self.replied.append((message, reply))

    def call(self, call: payment.Call, *, lost_half: bool) -> payment.Reply | None:
        self.calls += 1
        if isinstance(call, payment.Charge):
            if "fresh_gateway_key" in self.bugs:
                call = call._replace(key=f"{call.key}:{self.calls}")
            if call.order_id in self.undone and call.key not in self.gateway.cancelled:
                raise Violation("a charge was tried after its compensation was confirmed")
            return self.gateway.charge(call)
        if call.cancel_first:
            if "key_not_cancelled" in self.bugs:
                return payment.NothingCaptured()
            if not self.gateway.cancel(call.charge_key):
                return payment.NothingCaptured()
            if lost_half:
                return None
        return self.gateway.refund(call.charge_key)

    def payment_failed(self, message: Message) -> None:
        failures = message.failures + 1
        parked = failures > FAILURES_MAX
        due_at = None if parked else self.now + timedelta(seconds=5)
        outcome: Literal["RETRYING", "PARKED"] = "PARKED" if parked else "RETRYING"
        body = payment.notice(
            message.event_id, message.body, outcome, reason="gateway_timeout", due_at=due_at
        )
        notice = ids.notice_id(message.event_id, outcome, failures, self.now)
        if "one_result_id" in self.bugs:
            notice = ids.event_id(message.event_id, "result")
        self.bag.append(Message(notice, body))
        moved = message._replace(failures=failures)
        (self.dead if parked else self.bag).append(moved)

    def complete_payment(self) -> None:
        message, reply = self.replied.pop(self.choose(len(self.replied)))
        if self.repeat("payment", message):
            return
        attempt = self.attempts[message.body.order_id]
        decision = payment.complete(attempt, message.event_id, message.body, reply)
        assert decision.result is not None
        self.attempts[message.body.order_id] = decision.attempt
        self.finish("payment", message, [self.result(decision.result)])
        self.confirmed(decision.result)

    def crash_payment(self) -> None:
        """The worker dies between the call and its record."""
        message, _ = self.replied.pop(self.choose(len(self.replied)))
        self.bag.append(message)

    def confirmed(self, result: Any) -> None:
        if result.operation == "refund" and result.outcome == "OK":
            self.undone.add(result.order_id)

    # -- inventory and shipping --------------------------------------------------------------

    def inventory(self, message: Message) -> None:
        if self.repeat("inventory", message):
            return
        body = message.body
        known = self.reservations.get(body.order_id)
        forgotten = known is None and isinstance(body, InventoryRelease)
        decision = inventory.decide(known, self.stock, message.event_id, body, self.now)
        if not (forgotten and "no_inventory_tombstone" in self.bugs):
            self.reservations[body.order_id] = decision.reservation
        self.stock.update((row.sku, row) for row in decision.stock)
        self.finish("inventory", message, [self.result(decision.result)])

    def shipping(self, message: Message) -> None:
        if self.repeat("shipping", message):
            return
        body = message.body
        known = self.shipments.get(body.order_id)
        forgotten = known is None and isinstance(body, ShippingCancel)
        decision = shipping.decide(known, message.event_id, body, self.now)
        if not (forgotten and "no_shipping_tombstone" in self.bugs):
            self.shipments[body.order_id] = decision.shipment
        self.finish("shipping", message, [self.result(decision.result)])

    # -- the end -----------------------------------------------------------------------------

    def drain(self) -> None:
        """Let faults end: everything is delivered, dead letters are redriven, time passes."""
        self.choose = lambda n: n - 1
        for _ in range(DRAIN_ROUNDS_MAX):
            while self.replied:
                self.complete_payment()
            for message in self.bag[:200]:
                self.bag.pop(0)
                self.handle(message)
            while self.dead:
                self.operator_redrives()
            self.check_always()
            if not self.bag and not self.replied:
                if self.settled():
                    return
                for order, raw in self.authority.items():
                    self.table[order] = raw
                self.now += timedelta(seconds=60)
                self.fire()
                self.operator_retries()
        raise Violation(f"not every saga ended: {[s and s.state for s in self.sagas()]}")

    def sagas(self) -> list[Saga | None]:
        raws = [self.authority.get(order) for order in self.orders]
        return [None if raw is None else from_bytes(raw) for raw in raws]

    def settled(self) -> bool:
        return all(saga is not None and saga.created and saga.settled for saga in self.sagas())

    def check_always(self) -> None:
        """What holds at every moment."""
        row = self.stock["sku"]
        if min(row.available, row.held, row.consumed) < 0:
            raise Violation(f"negative stock: {row}")
        if row.available + row.held + row.consumed != self.initial_stock:
            raise Violation(f"stock is not conserved: {row}")
        for order in self.orders:
            if list(self.gateway.captured.values()).count(order) > 1:
                raise Violation("captured twice")
        if self.illegal:
            raise Violation(f"illegal: {self.illegal}")

    def check_end(self) -> None:
        """What holds when every saga has ended."""
        held = consumed = 0
        for saga in self.sagas():
            assert saga is not None
            completed = saga.state == "COMPLETED"
            balance = self.gateway.balance(saga.order_id)
            waived = {operation for order, operation in self.waived if order == saga.order_id}
            kept = balance == TOTAL and "refund" in waived
            if balance != (TOTAL if completed else 0) and not kept:
                raise Violation(f"{saga.state} with a balance of {balance}")
            shipment = self.shipments.get(saga.order_id)
            shipped = shipment is not None and shipment.status == "SHIPPED"
            if shipped != completed and not (shipped and "cancel" in waived):
                raise Violation(f"{saga.state} with shipment {shipment}")
            units = sum(quantity for _, quantity in saga.lines)
            reserved = self.reservations.get(saga.order_id)
            if waived & {"release", "commit"} and reserved and reserved.status == "HELD":
                held += units
            else:
                consumed += units if completed else 0
        row = self.stock["sku"]
        if (row.held, row.consumed) != (held, consumed):
            raise Violation(f"{consumed} sold and {held} waived, but {row}")


def run(choose: Callable[[int], int], steps: int, **options: Any) -> World:
    """Run a world of `steps` random steps to its end and check it; raises Violation."""
    world = World(choose, **options)
    for _ in range(steps):
        world.step()
    world.drain()
    world.check_end()
    return world
