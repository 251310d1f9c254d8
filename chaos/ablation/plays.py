"""What happens in experiments: orders of every class, and one fault that proves its effect.

Faults strike at counted places (a failpoint's n-th hit, a state that all orders have reached),
never after a while, so that the same seed brings the same fault.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType

from chaos.ablation.stage import Stage, Void
from chaos.ablation.stale import records_before
from chaos.records import Record
from chaos.rules import parse_rules
from chaos.workload.mix import Outcome

MANY_CANCELS: Mapping[Outcome, float] = MappingProxyType(
    {
        Outcome.HAPPY: 50,
        Outcome.CANCELLED: 30,
        Outcome.DECLINED: 7,
        Outcome.OUT_OF_STOCK: 7,
        Outcome.SHIPPING_REFUSED: 6,
    }
)
ENDED = (
    "select count(*) from orders.saga where state in ('COMPLETED', 'CANCELLED', 'REJECTED')"
    " and terminal"
)
PLACED = "select count(*) from orders.orders"
#: Orders that have neither ended nor an event on a retry tier.
UNDER_WAY = (
    "select (select count(*) from orders.orders)"
    " - (select count(*) from orders.saga where terminal)"
    " - (select count(*) from ops.inbox where status = 2)"
)
CANCELLED = (
    "select count(*) from orders.saga where terminal and state = 'CANCELLED'"
    " and reason = 'customer'"
)
IN_STATE = "select count(*) from orders.saga where state = %s"
COMMANDS = (
    "payment.requested",
    "payment.refund",
    "inventory.requested",
    "inventory.release",
    "inventory.commit",
    "shipping.requested",
    "shipping.cancel",
)


def undisturbed(stage: Stage) -> None:
    """Nothing breaks."""
    stage.load(stage.orders)


def broker_away(stage: Stage) -> None:
    """The broker is gone while a third of the orders is accepted."""
    third = math.ceil(stage.orders / 3)
    stage.load(third)
    stage.lab.stop("broker", grace_s=0)
    before = len(stage.accepted)
    stage.load(third)
    placed = stage.count(PLACED)
    stage.lab.start("broker")
    if placed <= before:
        raise Void("no order was stored while the broker was away")
    stage.load(third)


def crash(worker: str, point: str, nth: int) -> Callable[[Stage], None]:
    """`worker` dies at the `nth` hit of a failpoint while orders flow. Raises BadRule."""
    rules = f"{point}=crash;nth={nth}"
    parse_rules(rules)

    def play(stage: Stage) -> None:
        stage.arm(worker, rules)
        with stage.flowing(stage.orders):
            stage.crashed(worker, point)

    return play


def crash_on_new_orders(point: str) -> Callable[[Stage], None]:
    """The orchestrator dies at its first hit of `point`, in a batch of new orders. Raises BadRule.

    It was away while they came, and nobody else moves an order: its topics hold nothing but
    creations and cancellations, all of them.
    """
    worker, rules = "orchestrator-1", f"{point}=crash;nth=1"
    parse_rules(rules)

    def play(stage: Stage) -> None:
        half = stage.orders // 2
        stage.lab.stop(worker)
        stage.load(half, mix=MANY_CANCELS)
        wanted = len(stage.accepted) + len(stage.cancelled)
        stage.until(
            lambda: len(stage.records(["order.created", "order.cancel"])) >= wanted,
            "the new orders are published",
        )
        stage.arm(worker, rules)
        stage.crashed(worker, point)
        stage.load(stage.orders - half)

    return play


def payment_dies(stage: Stage) -> None:
    """Payment dies when the gateway has charged for a whole batch, and none of it is recorded."""
    worker, point, half = "payment-1", "delivery.after_call", stage.orders // 2
    # its first batch holds charges only: they came while it was away, and none is declined
    stage.lab.stop(worker)
    stage.load(half, mix={Outcome.HAPPY: 1})
    stage.until(
        lambda: len(stage.records(["payment.requested"])) >= len(stage.accepted), "charges wait"
    )
    stage.arm(worker, f"{point}=crash;nth=1")
    stage.crashed(worker, point)
    stage.load(stage.orders - half)
    stage.until(lambda: _charged_again(stage), "a charge is asked for again")


def failing_step(stage: Stage) -> None:
    """One step of the orchestrator raises."""
    point = "delivery.before_transaction"
    stage.arm("orchestrator-1", f"{point}=error;nth=6")
    with stage.flowing(stage.orders):
        stage.struck("orchestrator-1", point)


def failing_events(stage: Stage) -> None:
    """The orchestrator's first twenty attempts at a transaction fail."""
    point = "delivery.in_transaction"
    stage.arm("orchestrator-1", f"{point}=error;times=20")
    with stage.flowing(stage.orders):
        stage.struck("orchestrator-1", point)


def replies_lost(stage: Stage) -> None:
    """The gateway does a third of what it is asked and does not answer."""
    stage.gateway(reply_lost_rate=0.35, seed=stage.seed)
    stage.load(stage.orders)
    stage.until(lambda: _lost_charges(stage), "the gateway loses replies to charges")
    stage.gateway(reply_lost_rate=0.0)


def replies_lost_then_cancelled(stage: Stage) -> None:
    """The gateway charges and does not answer; customers cancel before it is asked again."""
    stage.gateway(reply_lost_rate=1.0)
    _cancel_what_waits(stage, lambda: stage.gateway(reply_lost_rate=0.0))
    if not _lost_charges(stage):
        raise Void("the gateway lost no reply to a charge")


def late_and_cancelled(stage: Stage) -> None:
    """Messages of one kind come late; customers cancel before they do."""
    _cancel_what_waits(stage)


def _cancel_what_waits(stage: Stage, then: Callable[[], None] = lambda: None) -> None:
    """Nobody brings retries back until all orders have ended or wait for one, and the
    cancellations of those that wait are over. `then` is called when all wait.
    """
    stage.lab.stop("dlq-1")
    go = threading.Event()
    with stage.flowing(stage.orders, mix=MANY_CANCELS, rate_per_s=100, cancel_when=go):
        try:
            stage.until(
                lambda: stage.count(PLACED) >= stage.orders and not stage.count(UNDER_WAY),
                "all orders have ended or wait for a retry",
            )
            then()
        finally:
            go.set()
    stage.until(
        lambda: stage.count(CANCELLED) >= len(stage.cancelled) > 0, "the cancellations are over"
    )
    stage.lab.start("dlq-1")


def stale_copies_then_cancelled(stage: Stage) -> None:
    """The orchestrator recovers working copies that are older than PostgreSQL; customers cancel.

    Orders wait in COMMIT_PENDING, because their commits are late. What a zombie would have written
    late stands at the end of the changelog: each order's record from before.
    """
    topic = "symphony-orchestrator-sagas-changelog"
    stage.lab.stop("dlq-1")
    stage.load(stage.orders)
    waiting = stage.orders // 3
    stage.until(
        lambda: stage.count(IN_STATE, "COMMIT_PENDING") >= waiting, "orders wait to be committed"
    )
    stage.until(
        lambda: stage.count(ENDED) + stage.count(IN_STATE, "COMMIT_PENDING") >= len(stage.accepted),
        "all other orders end",
    )
    stage.lab.stop("orchestrator-1", grace_s=0)
    stale = records_before(stage.records([topic]))
    if len(stale) < waiting:
        raise Void(f"only {len(stale)} working copies could be made stale")
    stage.publish(stale)
    stage.lab.start("orchestrator-1")
    taken = stage.cancel(one.key.decode() for one in stale if one.key)
    if taken < waiting:
        raise Void(f"only {taken} cancellations were taken")
    stage.until(
        lambda: (
            stage.count(
                "select count(distinct order_id) from orders.order_history"
                " where event = 'cancel_requested'"
            )
            >= taken
        ),
        "the cancellations are decided",
    )
    stage.lab.start("dlq-1")


def duplicates(stage: Stage) -> None:
    """Every command is delivered a second time after its order has ended."""
    stage.load(stage.orders)
    stage.until(lambda: stage.count(ENDED) >= len(stage.accepted), "the orders end")
    again = stage.records(COMMANDS)
    if len(again) < stage.orders:
        raise Void(f"only {len(again)} commands to repeat")
    stage.publish(again)


def poison(stage: Stage) -> None:
    """Somebody writes records to a command topic that nobody can read."""
    stage.load(stage.orders)
    nonsense = [
        Record("payment.requested", number % 4, b"%d" % number, b"{not json") for number in range(8)
    ]
    stage.publish(nonsense)


def gateway_in_error(stage: Stage) -> None:
    """The gateway fails for longer than the retries last; what it refuses is parked."""
    half = stage.orders // 2
    stage.gateway(mode="ERROR")
    stage.load(half)
    stage.until(
        lambda: stage.count("select count(*) from ops.inbox where status = 3") >= half // 2,
        "commands are parked",
    )
    stage.gateway(mode="SUCCESS")
    stage.load(half)


def letters_sent_back(stage: Stage) -> None:
    """What the gateway refused for long is sent back by an operator once it works again."""
    gateway_in_error(stage)
    letters = stage.records(["payment.requested.dlt"])
    if not letters:
        raise Void("there is no dead letter to send back")
    stage.send_back(letters)


def timer_then_crash(stage: Stage) -> None:
    """Shipping is away, orders time out, and the orchestrator dies after the commit of a tick."""
    half = stage.orders // 2
    stage.load(half)
    stage.until(lambda: stage.count(ENDED) >= len(stage.accepted), "the orders end")
    stage.lab.stop("shipping-1")
    stage.arm("orchestrator-1", "delivery.tick_after_commit=crash;nth=1")
    stage.load(half)
    stage.crashed("orchestrator-1", "delivery.tick_after_commit")
    stage.lab.start("shipping-1")


def worker_leaves(stage: Stage) -> None:
    """One of two orchestrators leaves under load; each assignment is held before it is read."""
    worker, point = "orchestrator-1", "delivery.after_resume"
    with stage.flowing(stage.orders, rate_per_s=100):
        stage.until(lambda: stage.count(IN_STATE, "COMPLETED") >= 20, "flow")
        before = stage.strikes(worker, point)
        stage.lab.scale("orchestrator", 1)
        stage.until(
            lambda: stage.strikes(worker, point) > before, f"{worker} comes by {point} again"
        )


def contended_stock(stage: Stage) -> None:
    """Two inventory workers decide at the same time on the same products."""
    stage.load(stage.orders, rate_per_s=100)
    for worker in ("inventory-1", "inventory-2"):
        stage.struck(worker, "inventory.after_lock")


def _charged_again(stage: Stage) -> bool:
    """Whether the gateway was asked twice for a charge that it had made."""
    made = set[str]()
    for line in stage.gateway_lines():
        if line["op"] == "charge" and line["order_id"] in made:
            return True
        if line["op"] == "charge" and line["outcome"] == "ok":
            made.add(line["order_id"])
    return False


def _lost_charges(stage: Stage) -> int:
    return len(
        {
            line["idempotency_key"]
            for line in stage.gateway_lines()
            if line["op"] == "charge" and line["outcome"] == "ok" and not line["replied"]
        }
    )
