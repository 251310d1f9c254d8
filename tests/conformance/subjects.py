"""Every agent that stands on the delivery core, as the conformance suite sees it.

A subject says how its N-th input looks, which facts its effects leave behind, and where a batch may
be cut short. The suite itself knows nothing of any agent: adding one here puts it under all tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg2
from aiokafka.structs import ConsumerRecord

from agents.probe import PROBE_IN, ProbeIn, ProbeOut
from app import ids
from app.errors import GatewayUnavailable
from app.messages import (
    Body,
    Cause,
    InventoryRelease,
    InventoryRequested,
    Item,
    OrderCreated,
    OrderStatusChanged,
    Output,
    PaymentRefund,
    PaymentRequested,
    ShippingCancel,
    ShippingRequested,
    StockLine,
    deadletter,
    emit,
)
from app.messages.envelope import register
from app.slo.panes import Key, start_of
from app.topics import (
    CATALOGUE,
    DEAD_LETTER_TOPICS,
    PAYMENT_REQUESTED_CANARY,
    RETRY_TIERS,
    TopicSpec,
)
from chaos.ledger import probe_subject

for _body in (ProbeIn, ProbeOut):
    register(_body, _body.TOPICS)

NOW = datetime.now(UTC)
LATER = NOW + timedelta(hours=1)
NAMESPACE = "9d9d3f0e-3a52-4f0c-8a55-0f6d2f9d8f10"

Facts = dict[str, tuple[Any, ...]]

STEP_POINTS = (
    "delivery.before_seek",
    "delivery.before_step",
    "delivery.before_transaction",
    "delivery.in_transaction",
    "delivery.before_commit",
    "delivery.after_commit",
    "delivery.before_flush",
    "delivery.after_changelog",
    "delivery.after_tables",
    "delivery.after_outputs",
    "delivery.after_watermark",
    "delivery.before_offset_commit",
    "delivery.after_offset_commit",
)
HANDLER_POINTS = (
    "delivery.in_transaction",
    "delivery.after_commit",
    "delivery.after_tables",
    "delivery.after_outputs",
)
"""Where what a handler did, and what it gave back, must survive."""
TICK_POINTS = (
    "delivery.tick_before_commit",
    "delivery.tick_after_commit",
    "delivery.tick_recovered",
    "delivery.tick_after_publish",
    "delivery.after_tables",
)
"""Before and after the commit of due work, which no input record would repeat."""
CALL_POINTS = (
    "delivery.after_intent",
    "payment.before_call",
    "gateway.before_read",
    "payment.after_call",
    "delivery.after_call",
)


@dataclass(frozen=True)
class Subject:
    """One agent on trial.

    `facts` is SQL that gives one row (key, fact, ...) for each key of :keys that had an effect;
    `once` is the rest of that row after exactly one effect. `tables` maps each table to the key
    and value (None: any) that input `key` leaves in it. `undo` is the command that must commute
    with the input, `undone` tells from a fact that the pair left nothing behind. `others` are
    further topics that the role writes or reads. `whole_path` marks one subject of each kind of
    handler: what the core does without asking the handler is proven on these, because a restart
    costs seconds. `ticked` is the fact once time alone has moved the input on, empty when it does
    not. `consumer` is the one of the role's that is meant, where it has several. `failed` makes of
    a record what lies on the input topic. `exempt` names the tests that cannot apply, with the
    reason. `stored` is SQL of (partition, key, JSON) for each table that is a copy of rows: what
    the fold of its changelog must be. `unconcerned` is a body that says nothing to a selective
    handler.
    """

    name: str
    role: str
    topics: tuple[str, ...]
    outputs: str
    body: Callable[[str], Body]
    facts: str
    once: tuple[Any, ...]
    effect_table: str
    effect_key: str
    tables: Mapping[str, Callable[[str, str], tuple[bytes, bytes | None]]]
    points: tuple[str, ...] = HANDLER_POINTS
    whole_path: bool = False
    undo: Callable[[str], Body] | None = None
    undone: Callable[[tuple[Any, ...]], bool] = lambda fact: False
    schema: str = ""
    others: tuple[str, ...] = ()
    ticked: tuple[Any, ...] = ()
    consumer: str = ""
    failed: Callable[[Output], Output] = lambda output: output
    exempt: Mapping[str, str] = field(default_factory=dict)
    stored: Mapping[str, str] = field(default_factory=dict)
    unconcerned: Callable[[str], Body] | None = None

    @property
    def input(self) -> str:
        """The topic of the input."""
        return self.topics[0]

    def key(self, number: int) -> str:
        """Key of input `number`: the number itself, or an order id."""
        return str(number) if self.role == "probe" else ids.uuid5(NAMESPACE, f"order:{number}")

    def event_id(self, key: str, name: str = "input") -> str:
        """Id of the event called `name` of a key."""
        return ids.uuid5(NAMESPACE, f"{self.role}:{key}:{name}")

    def message(self, key: str) -> Output:
        """The input of a key; the same bytes every time."""
        return self.failed(self._emitted(self.body(key), self.event_id(key)))

    def passed_over(self, key: str) -> Output:
        """A message of a key that does not concern the handler."""
        assert self.unconcerned is not None
        return self._emitted(self.unconcerned(key), self.event_id(key))

    def undoing(self, key: str) -> Output:
        """The command that undoes the input of a key."""
        assert self.undo is not None
        return self._emitted(self.undo(key), self.event_id(key, "undo"))

    def _emitted(self, body: Body, event_id: str) -> Output:
        spec = CATALOGUE.get(body.TOPICS[0]) or TopicSpec(body.TOPICS[0], "", (type(body),), None)
        cause = Cause(event_id, event_id)
        return emit(cause, spec, body, event_id=event_id, now=NOW, source="/conformance")

    def effects(self, dsn: str, keys: list[str]) -> Facts:
        """The facts of those keys that had an effect, read past the product."""
        rows = query(dsn, self.facts, keys=keys)
        return {row[0]: tuple(row[1:]) for row in rows}


def query(dsn: str, sql: str, **params: Any) -> list[tuple[Any, ...]]:
    """Run a statement on a connection of its own."""
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall() if cursor.description else []


def _seen(key: str, event_id: str) -> tuple[bytes, None]:
    del key
    return ids.to_bytes(event_id), None


PROBE = Subject(
    name="probe",
    role="probe",
    topics=(PROBE_IN.name, "probe.out"),
    outputs="probe.out",
    body=lambda key: ProbeIn(seq=key),
    facts="""
        SELECT seq::text, count(*) FILTER (WHERE stage = 1), count(*) FILTER (WHERE stage = 2)
          FROM ops.probe_effect WHERE seq::text = ANY(%(keys)s) GROUP BY seq
    """,
    once=(1, 1),
    effect_table="ops.probe_effect",
    effect_key="seq::text",
    tables={"probe": lambda key, _: (key.encode(), b"2:2"), "probe_idempotency": _seen},
    schema=probe_subject._TABLE,
    points=STEP_POINTS,
    whole_path=True,
)
PAYMENT = Subject(
    name="payment",
    role="payment",
    topics=("payment.requested", "payment.refund"),
    outputs="payment.result",
    body=lambda key: PaymentRequested(
        order_id=key, amount_minor=1250, currency="EUR", not_after=LATER
    ),
    facts="""
        SELECT order_id::text, status, version FROM payments.payment_attempt
         WHERE order_id::text = ANY(%(keys)s)
    """,
    once=("CHARGED", 2),
    effect_table="payments.payment_attempt",
    effect_key="order_id::text",
    tables={"payment_idempotency": _seen},
    points=(*HANDLER_POINTS, *CALL_POINTS),
    whole_path=True,
    undo=lambda key: PaymentRefund(
        order_id=key,
        amount_minor=1250,
        currency="EUR",
        charge_id=ids.uuid5(NAMESPACE, f"payment:{key}:input"),
    ),
    undone=lambda fact: fact[0] in ("REFUNDED", "CANCELLED"),
)
# The handler is PAYMENT's. Without a configuration the canary takes up whatever it finds; the rest
# is in tests/integration/test_canary.py.
PAYMENT_CANARY = replace(
    PAYMENT,
    name="payment-canary",
    role="payment-canary",
    topics=(PAYMENT_REQUESTED_CANARY.name,),
    failed=lambda output: msgspec.structs.replace(output, topic=PAYMENT_REQUESTED_CANARY.name),
    points=("delivery.after_commit", "delivery.after_outputs"),
    whole_path=False,
    undo=None,
    others=("canary.config", "canary.acks"),
)
INVENTORY = Subject(
    name="inventory",
    role="inventory",
    topics=("inventory.requested", "inventory.release", "inventory.commit"),
    outputs="inventory.result",
    body=lambda key: InventoryRequested(
        order_id=key, lines=[StockLine(sku="ROSIN", quantity=1)], not_after=LATER
    ),
    facts="""
        SELECT order_id::text, status, version FROM inventory.reservation
         WHERE order_id::text = ANY(%(keys)s)
    """,
    once=("HELD", 1),
    effect_table="inventory.reservation",
    effect_key="order_id::text",
    tables={"inventory_idempotency": _seen},
    points=("inventory.after_lock", *HANDLER_POINTS),
    others=("stock.low",),
    undo=lambda key: InventoryRelease(order_id=key),
    undone=lambda fact: fact[0] == "RELEASED",
)
SHIPPING = Subject(
    name="shipping",
    role="shipping",
    topics=("shipping.requested", "shipping.cancel"),
    outputs="shipping.result",
    body=lambda key: ShippingRequested(
        order_id=key,
        address="1 Main Street, 53111 Bonn",
        not_after=LATER,
    ),
    facts="""
        SELECT order_id::text, status, version FROM shipping.shipment
         WHERE order_id::text = ANY(%(keys)s)
    """,
    once=("SHIPPED", 1),
    effect_table="shipping.shipment",
    effect_key="order_id::text",
    tables={"shipping_idempotency": _seen},
    points=("shipping.after_lock", *HANDLER_POINTS),
    undo=lambda key: ShippingCancel(order_id=key),
    undone=lambda fact: fact[0] == "CANCELLED",
)
ORCHESTRATOR = Subject(
    name="orchestrator",
    role="orchestrator",
    topics=(
        "order.created", "order.cancel", "order.operate", "order.reviewed", "payment.result",
        "inventory.result", "shipping.result",
    ),
    outputs="payment.requested",
    body=lambda key: OrderCreated(
        order_id=key,
        customer_id="conformance",
        items=[Item(product_id="ROSIN", quantity=1, unit_price_minor=990)],
        total_minor=990,
        currency="EUR",
        created_at=NOW,
    ),
    facts="""
        SELECT s.order_id::text, s.version, s.state,
               (SELECT count(*) FROM orders.order_history h WHERE h.order_id = s.order_id)
          FROM orders.saga s WHERE s.order_id::text = ANY(%(keys)s)
    """,
    once=(1, "PAYMENT_PENDING", 1),
    effect_table="orders.saga",
    effect_key="order_id::text",
    tables={"sagas": lambda key, _: (key.encode(), None)},
    points=("orchestrator.before_write", *HANDLER_POINTS, "orchestrator.before_restore"),
    others=("order.status_changed", "canary.config", "canary.acks"),
    ticked=(2, "PAYMENT_PENDING", 2),
)  # fmt: skip


NOTIFICATION = Subject(
    name="notification",
    role="notification",
    topics=("order.created",),
    outputs="",
    body=ORCHESTRATOR.body,
    facts="""
        SELECT subject, kind, status FROM notifications.notification
         WHERE subject = ANY(%(keys)s)
    """,
    once=("order_received", "SENT"),
    effect_table="notifications.notification",
    effect_key="subject",
    tables={},
    points=("delivery.in_transaction", "delivery.after_intent", "delivery.after_call"),
    others=(
        "order.reviewed",
        "order.cancel",
        "order.status_changed",
        "payment.result",
        "inventory.result",
        "shipping.result",
        "stock.low",
        "chaos.injected",
        "api.rate_limited",
    ),
    exempt={"test_a_refused_output_ends_the_worker_and_loses_nothing": "it publishes nothing"},
)


def _record(output: Output) -> ConsumerRecord:
    return ConsumerRecord(
        output.topic, 0, 0, 0, 0, output.key, output.value, None, 0, 0, tuple(output.headers)
    )


_UNANSWERED = GatewayUnavailable("status 503")
_BY_POSITION = "a record is known by its position alone: the same bytes again are another record"
DEAD_LETTERS = Subject(
    name="dlq-index",
    role="dlq",
    consumer="dlq-index",
    topics=("payment.requested.dlt",),
    outputs="",
    body=PAYMENT.body,
    failed=lambda output: deadletter.dead_letter(
        _record(output),
        topic="payment.requested.dlt",
        role="payment",
        error=_UNANSWERED,
        attempt=3,
        now=NOW,
    ),
    facts="""
        SELECT encode(key, 'escape'), count(*) FROM ops.dead_letter
         WHERE encode(key, 'escape') = ANY(%(keys)s) GROUP BY key
    """,
    once=(1,),
    effect_table="ops.dead_letter",
    effect_key="encode(key, 'escape')",
    tables={},
    points=("dlq.before_index", "delivery.after_commit", "delivery.after_outputs"),
    others=(*(tier.name for tier in RETRY_TIERS.values()), *DEAD_LETTER_TOPICS),
    exempt={
        "test_duplicates_in_one_poll_have_one_effect": _BY_POSITION,
        "test_duplicates_across_polls_have_one_effect": _BY_POSITION,
        "test_an_event_that_fails_in_the_middle_is_isolated": (
            "PostgreSQL takes any dead letter, whatever is in it (tests/integration/test_dlq.py)"
        ),
        "test_a_refused_output_ends_the_worker_and_loses_nothing": "it publishes nothing",
    },
)
REDELIVERY = Subject(
    name="dlq-redelivery",
    role="dlq",
    consumer="dlq-retry.1s",
    topics=("retry.1s",),
    outputs="payment.requested",
    body=PAYMENT.body,
    failed=lambda output: deadletter.retry(
        _record(output),
        tier="retry.1s",
        role="payment",
        error=_UNANSWERED,
        attempt=1,
        due_at=NOW,
        now=NOW,
    ),
    facts="""
        SELECT key, count(*) FROM ops.inbox, unnest(%(keys)s::text[]) AS key
         WHERE consumer = 'dlq-retry.1s' AND position(convert_to(key, 'UTF8') IN outputs) > 0
         GROUP BY key
    """,
    once=(1,),
    effect_table="",
    effect_key="",
    tables={},
    points=("dlq.before_redelivery", "delivery.after_commit", "delivery.after_outputs"),
    others=(*(tier.name for tier in RETRY_TIERS.values()), *DEAD_LETTER_TOPICS),
    exempt={
        "test_duplicates_in_one_poll_have_one_effect": _BY_POSITION,
        "test_duplicates_across_polls_have_one_effect": _BY_POSITION,
        "test_an_event_that_fails_in_the_middle_is_isolated": (
            "it writes nothing that PostgreSQL could refuse for one record alone"
        ),
    },
)


@dataclass(frozen=True)
class Counted(Subject):
    """A subject whose effects are sums: a key's event has its key for an id, so that its inbox row
    tells what became of it."""

    def event_id(self, key: str, name: str = "input") -> str:
        """The key itself."""
        return key if name == "input" else super().event_id(key, name)


# The fact is what the panes hold beside what the inbox says is counted (a barrier's id is of
# version 4): 0, whatever else was counted before.
SLO = Counted(
    name="slo",
    role="slo",
    topics=("order.status_changed",),
    outputs="",
    body=lambda key: OrderStatusChanged(
        order_id=key, status="COMPLETED", saga_version=9, created_at=NOW - timedelta(seconds=1)
    ),
    facts="""
        SELECT i.event_id::text,
               ((SELECT coalesce(sum(good + bad), 0) FROM slo.pane
                  WHERE sli = 'availability' AND width_s = 300)
                - (SELECT count(*) FROM ops.inbox WHERE consumer = 'slo' AND status = 0
                      AND substr(event_id::text, 15, 1) = '5'))::int
          FROM ops.inbox i
         WHERE i.consumer = 'slo' AND i.status = 0 AND i.event_id::text = ANY(%(keys)s)
    """,
    once=(0,),
    effect_table="ops.inbox",
    effect_key="(CASE WHEN status = 0 THEN event_id::text ELSE '' END)",
    tables={
        "slo_panes": lambda key, _: (
            Key("completion", 300, start_of(NOW.timestamp(), 300)).packed(),
            None,
        )
    },
    stored={
        "slo_panes": """
            SELECT partition, sli || '|' || width_s || '|' || extract(epoch FROM start_at)::bigint,
                   json_build_object('good', good, 'bad', bad, 'sketch', sketch)::text
              FROM slo.pane WHERE sli <> 'dead_letters'
        """
    },
    points=(
        "delivery.in_transaction",
        "delivery.after_commit",
        "delivery.after_changelog",
        "delivery.after_tables",
        "delivery.after_outputs",
    ),
    others=tuple(DEAD_LETTER_TOPICS),
    unconcerned=lambda key: OrderStatusChanged(
        order_id=key, status="PAYMENT_PENDING", saga_version=1
    ),
    exempt={"test_a_refused_output_ends_the_worker_and_loses_nothing": "it publishes nothing"},
)

SUBJECTS = {
    one.name: one
    for one in (
        PROBE,
        PAYMENT,
        PAYMENT_CANARY,
        INVENTORY,
        SHIPPING,
        ORCHESTRATOR,
        DEAD_LETTERS,
        REDELIVERY,
        NOTIFICATION,
        SLO,
    )
}
