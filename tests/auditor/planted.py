"""Defects planted into recorded books, each with the invariants that must notice it.

A defect is SQL over the auditor's store. `$happy`, `$declined` ... are orders of those classes,
`$parked` a parked one. The first invariant is the intended one, the others follow from the same
defect; any further one would be a false alarm.
"""

from __future__ import annotations

from typing import NamedTuple


class Defect(NamedTuple):
    """What is changed, and who must notice."""

    name: str
    caught_by: tuple[str, ...]
    sql: str


def operated(order: str, event: str, action: str, told: str, reason: str = "by letter") -> str:
    """SQL by which an operator has acted on `order`: history, audit log, topic and inbox say so."""
    act = f"md5('act of ' || ${order}::varchar)::uuid"
    return (
        f"insert into act by name select {act} as event_id, '{action}' as action, 'eve' as actor,"
        f" ${order}::varchar as target, '{reason}' as reason, 1.0 as at_s;"
        "insert into history by name select (select max(id) from history) + 1 as id,"
        f" order_id, version, '{event}' as event, state as status, '{told}' as reason,"
        f" {act}::varchar as cause_id, 1.0 as at_s from saga where order_id = ${order};"
        "insert into record by name select * replace ('order.operate' as topic,"
        f" {act} as event_id, 'order.operate.v1' as type, '' as causation) from record"
        f" where order_id = ${order} and topic = 'order.created';"
        f"insert into inbox by name select * replace ({act} as event_id) from inbox"
        " where consumer = 'orchestrator' limit 1"
    )


def told(subject: str, kind: str, occurrence: str, again: int = 0) -> str:
    """SQL by which an operator was told, and PostgreSQL has it: of nothing that the books hold."""
    name = f"md5('{subject} {kind} {occurrence} {again}')::uuid"
    return (
        f"insert into notification by name select {name} as id, '{subject}' as subject,"
        f" '{kind}' as kind, '{occurrence}' as occurrence, 'SENT' as status, 1.0 as sent_s;"
        f"insert into notice by name select 9000 as line, {name} as id, '{subject}' as subject,"
        f" '{kind}' as kind, '{occurrence}' as occurrence, 1.0 as at_s"
    )


def fell(sku: str, restocked: int) -> str:
    """SQL by which the available quantity of a SKU fell below a threshold."""
    return (
        "insert into record by name select * replace ('stock.low' as topic, 'stock.low.v1' as type,"
        f" '{sku}' as key, null as order_id, md5('{sku} {restocked}')::uuid as event_id,"
        f" 'low' as level, {restocked} as restocked, null as outcome, null as operation)"
        " from record where order_id = $happy and topic = 'inventory.result'"
        " and operation = 'reserve'"
    )


GHOST = "00000000-0000-0000-0000-00000000dead"
#: A step that was repeated has published a dead letter again, and the index has taken it in.
COPIED_LETTER = """
insert into record select * replace ("offset" + 1000 as "offset", gen_random_uuid() as position_id)
  from record where topic = 'payment.requested.dlt' and order_id = $parked;
insert into letter_index by name select topic, partition, "offset", origin_topic, origin_partition,
       origin_offset, retry_role as consumer, event_id, order_id, at_s
  from record where topic = 'payment.requested.dlt' and "offset" >= 1000;
insert into inbox by name select 'dlq-index' as consumer, position_id as event_id, 0 as status
  from record where topic = 'payment.requested.dlt' and "offset" >= 1000;
"""

DEFECTS = (
    # accepted orders
    Defect("accepted order lost", ("O1",),
           f"insert into request by name select '{GHOST}'::uuid as order_id, 'x' as op, 'create'"
           " as kind, 'ok' as outcome, '' as key, '' as request_id, '' as body_hash"),
    Defect("two orders for one request", ("O1", "O3"),
           "insert into request by name select * replace ('twice' as op, $happy2 as order_id)"
           " from request where order_id = $happy and kind = 'create';"
           "update record set correlation = (select request_id from request where op = 'twice')"
           " where order_id = $happy2"),
    Defect("refused, yet created", ("O2",),
           "delete from request where order_id = $happy and kind = 'create';"
           "insert into request by name select 'no' as op, 'create' as kind, 'fail' as outcome,"
           " key, '' as request_id, '422' as detail from idempotency where order_id = $happy"),
    Defect("refused, yet announced", ("O2",),
           "update request set outcome = 'fail', key = '' where order_id = $happy"
           " and kind = 'create'"),
    Defect("key reused with another body", ("O3",),
           "insert into request by name select * replace ('again' as op, 'other' as body_hash,"
           " '' as request_id) from request where order_id = $happy and kind = 'create'"),
    Defect("repeat answered another reply", ("O3",),
           "update request set reply_hash = 'bb' where kind = 'repeat'"),
    Defect("repeat made another order", ("O3",),
           "update request set order_id = $happy2 where kind = 'repeat'"),
    Defect("another body accepted under its key", ("O3",),
           "update request set outcome = 'ok', body_hash = '' where kind = 'conflict'"),
    Defect("another body left an order", ("O2", "E3"),
           "update record set correlation = (select request_id from request"
           " where kind = 'conflict') where order_id = $happy and topic = 'order.created'"),
    Defect("key answers another order", ("O3",),
           "update idempotency set order_id = $happy2 where order_id = $happy"),
    Defect("order still running", ("O4", "O5", "T1", "P4"),
           "update saga set state = 'PAYMENT_PENDING', terminal = false, body_hash = 'x'"
           " where order_id = $happy"),
    Defect("order never driven", ("O4", "P4"),
           "delete from saga where order_id = $happy; delete from history where order_id = $happy;"
           "delete from changelog where key = $happy::varchar"),
    Defect("command outstanding", ("O4",),
           "update saga set terminal = false where order_id = $happy"),
    Defect("cancellation never decided", ("O4",),
           "delete from history where order_id = $cancelled and event = 'cancel_requested';"
           "insert into history by name select 0 as id, $happy as order_id, 1 as version, '' as"
           " event, 'cancel_requested' as status, '' as reason, 0 as at_s;"
           "insert into record by name select * replace ((select cancel_event from orders where"
           " order_id = $happy) as event_id, $happy as order_id, $happy::varchar as key,"
           " (select partition from record where order_id = $happy limit 1) as partition,"
           " -1 as \"offset\") from record"
           " where topic = 'order.cancel' limit 1;"
           "insert into inbox by name select * replace ((select cancel_event from orders where"
           " order_id = $happy) as event_id) from inbox where consumer = 'orchestrator' limit 1"),
    Defect("parked without a dead letter", ("O4", "D1", "D2", "X1"),
           "update record set order_id = null, event_id = null, origin_offset = 99999"
           " where order_id = $parked and topic like '%.dlt'"),
    # histories
    Defect("late reply flips a cancelled order", ("O5", "X4"),
           "insert into history by name select max(id) + 1 as id, $declined as order_id,"
           " max(version) + 1 as version, 'inventory_pending' as event, 'INVENTORY_PENDING' as"
           " status, '' as reason, 0 as at_s from history;"
           "update saga set version = 999 where order_id = $declined"),
    Defect("history takes an illegal step", ("O5", "X4"),
           "update history set status = 'COMPLETED' where order_id = $happy"
           " and status = 'PAYMENT_PENDING'"),
    Defect("update lost: version taken back", ("O5",),
           "update saga set version = 1 where order_id = $happy"),
    Defect("older version written later", ("O5",),
           "update history set version = 0 where order_id = $happy and status = 'COMPLETED'"),
    Defect("operator's line that nobody asked for", ("O5",),
           "insert into history by name select max(id) + 1 as id, $happy as order_id,"
           " 99 as version, 'operator_retried' as event, 'COMPLETED' as status,"
           " 'charge by eve' as reason, uuid()::varchar as cause_id from history;"
           "update saga set version = 99 where order_id = $happy"),
    Defect("operator did something else than asked", ("O5",),
           operated("happy", "operator_skipped", "saga.retry", "commit by eve: by letter")),
    Defect("forward command skipped", ("O5",),
           operated("happy", "operator_skipped", "saga.skip", "charge by eve: by letter")),
    Defect("operator's action lost", ("X1",),
           f"insert into act values ('{GHOST}', 'saga.retry', 'eve', $happy::varchar, '', 1.0)"),
    Defect("saga without an order", ("O5",),
           f"insert into saga by name select * replace ('{GHOST}'::uuid as order_id) from saga"
           " where order_id = $happy; insert into history by name select * replace"
           f" ('{GHOST}'::uuid as order_id, id + 1000 as id) from history where order_id = $happy"),
    Defect("total drifts from its lines", ("O6", "P2", "P4", "X3"),
           "update orders set total_minor = total_minor + 1 where order_id = $happy"),
    Defect("wrong end", ("O7",),
           "update request set expected = 'declined' where order_id = $happy"),
    # money
    Defect("rejected by nobody", ("O8", "N1", "O5", "O7", "T1"),
           "update saga set state = 'REJECTED', reason = 'fraud', body_hash = 'x'"
           " where order_id = $declined"),
    Defect("went on without a decision", ("O8",),
           "insert into review select $happy, '', $happy"),
    Defect("went on though rejected", ("O8", "X1"),
           "insert into review select $happy, 'AUTO_REJECTED', $happy"),
    Defect("decision lost", ("X1",),
           "insert into review select $happy, 'APPROVED', $happy"),
    Defect("charged twice", ("P1", "P2", "P4", "P6", "P7"),
           "insert into gateway by name select * replace (line + 1000 as line, 'random' as key)"
           " from gateway where order_id = $happy and op = 'charge'"),
    Defect("never charged", ("P2", "P4", "P6"),
           "delete from gateway where order_id = $happy"),
    Defect("charged a wrong amount", ("P2", "P4", "P6"),
           "update gateway set amount_minor = 1 where order_id = $happy"),
    Defect("refund lost: money kept", ("P3", "P4", "P6"),
           "delete from gateway where order_id = $refused and op = 'refund'"),
    Defect("refunded in another currency", ("P3", "P4"),
           "update gateway set currency = 'CHF' where order_id = $refused and op = 'refund'"),
    Defect("refunded twice", ("P5", "P3", "P4", "P6", "P7"),
           "insert into gateway by name select * replace (line + 1000 as line, 'random' as key)"
           " from gateway where order_id = $refused and op = 'refund'"),
    Defect("refunded before the capture", ("P5",),
           "update gateway set line = 0 where order_id = $refused and op = 'refund'"),
    Defect("completed order refunded", ("P2", "P4", "P6"),
           "insert into gateway by name select * replace (line + 1000 as line, 'refund' as op,"
           " 'r' as key) from gateway where order_id = $happy and op = 'charge'"),
    Defect("orphan charge", ("P6", "P4"),
           "insert into gateway by name select * replace ('nobody' as order_text, null as order_id,"
           " 'orphan' as key) from gateway where order_id = $happy and op = 'charge'"),
    Defect("payment row forgets the charge", ("P6", "P4"),
           "update attempt set status = 'DECLINED' where order_id = $happy"),
    Defect("payment booked twice", ("P4", "P6"),
           "insert into attempt by name select * replace (number + 1 as number) from attempt"
           " where order_id = $happy"),
    Defect("random key on every retry", ("P7",),
           "insert into gateway by name select * replace (line + 1000 as line, 'random' as key,"
           " 'error' as outcome) from gateway where order_id = $happy and op = 'charge'"),
    Defect("one key, two requests", ("P7",),
           "insert into gateway by name select * replace (line + 1000 as line, 'x' as body_hash,"
           " 'replayed' as outcome) from gateway where order_id = $happy and op = 'charge'"),
    # stock and shipments
    Defect("stock leaks", ("S1",),
           "update stock set available = available - 1 where consumed > 0"),
    Defect("sold twice", ("S2", "S1"),
           "update stock set available = -1 where sku = (select min(sku) from stock)"),
    Defect("consumed what nobody bought", ("S1",),
           "update stock set consumed = consumed + 1, restocked = restocked + 1"
           " where sku = (select min(sku) from stock)"),
    Defect("reservation leaks", ("S3", "S1"),
           "update reservation set status = 'HELD' where order_id = $refused"),
    Defect("completed without its stock", ("S3", "S1"),
           "update reservation set status = 'RELEASED' where order_id = $happy"),
    Defect("reserved twice", ("S4", "S1"),
           "insert into reservation_line select * from reservation_line where order_id = $happy"),
    Defect("reserved another quantity", ("S4", "S1"),
           "update reservation_line set quantity = quantity + 1 where order_id = $happy"),
    Defect("held without its line", ("S4", "S1"),
           "delete from reservation_line where order_id = $happy"),
    Defect("cancelled order shipped", ("H1",),
           "update shipment set status = 'SHIPPED' where order_id = $refused"),
    Defect("never shipped", ("H1",),
           "delete from shipment where order_id = $happy"),
    Defect("shipped twice", ("H1",),
           "insert into shipment select * from shipment where order_id = $happy"),
    Defect("shipped before it was paid", ("H2",),
           "update record set outcome = 'DECLINED' where order_id = $happy"
           " and topic = 'payment.result'"),
    Defect("shipped without held stock", ("H2",),
           "update record set causation = (select causation from record where order_id = $happy"
           " and topic = 'payment.requested' limit 1) where order_id = $happy"
           " and topic = 'shipping.requested'"),
    # events
    Defect("event dropped by the relay", ("X1",),
           "delete from record where topic = 'order.created' and order_id = $happy;"
           "delete from record where causation = $happy::varchar"),
    Defect("cancel dropped by the relay", ("X1",),
           "delete from record where topic = 'order.cancel' and order_id = $cancelled"),
    Defect("stored output never sent", ("X1", "X4"),
           "delete from record where topic = 'order.status_changed' and order_id = $happy"
           " and status = 'INVENTORY_PENDING'"),
    Defect("phantom event", ("X2",),
           "insert into record by name select * replace (uuid() as event_id, 99999 as \"offset\")"
           " from record where topic = 'order.status_changed' and order_id = $happy"
           " and status = 'COMPLETED';"
           "update log_end set before_offset = 100000 where topic = 'order.status_changed'"),
    Defect("phantom beside a dead letter without an id", ("X2",),
           "insert into stored_output by name select * replace (null as event_id) from"
           " stored_output where topic = 'order.created.dlt' limit 1;"
           "insert into record by name select * replace (uuid() as event_id, 99999 as \"offset\")"
           " from record where topic = 'order.status_changed' and order_id = $happy"
           " and status = 'COMPLETED';"
           "update log_end set before_offset = 100000 where topic = 'order.status_changed'"),
    Defect("cancellation that nobody asked for", ("X2",),
           "insert into record by name select * replace ((select cancel_event from orders where"
           " order_id = $happy) as event_id, $happy as order_id, $happy::varchar as key,"
           " (select partition from record where order_id = $happy limit 1) as partition,"
           " -1 as \"offset\") from record where topic = 'order.cancel' and type <> 'barrier.v1'"
           " limit 1;"
           "insert into inbox by name select * replace ((select cancel_event from orders where"
           " order_id = $happy) as event_id) from inbox where consumer = 'orchestrator' limit 1"),
    Defect("effect undone after its event", ("X2", "X1"),
           "update stored_output set event_id = uuid() where topic = 'payment.result'"
           " and event_id in (select event_id from record where order_id = $happy)"),
    Defect("repeat with another body", ("X3",),
           "insert into record by name select * replace ('mutated' as body_hash,"
           " 99999 as \"offset\") from record where topic = 'payment.result'"
           " and order_id = $happy"),
    Defect("announced another total", ("X3",),
           "update record set total_minor = 1 where topic = 'order.created' and order_id = $happy"),
    Defect("announced out of order", ("X4",),
           "update record set saga_version = 999 where order_id = $happy"
           " and topic = 'order.status_changed' and status = 'PAYMENT_PENDING'"),
    Defect("end never announced", ("X4", "X1", "T2"),
           "delete from record where order_id = $happy and topic = 'order.status_changed'"
           " and status = 'COMPLETED'"),
    Defect("key on two partitions", ("X5",),
           "insert into record by name select * replace (partition + 1 as partition)"
           " from record where topic = 'order.status_changed' and order_id = $happy limit 1"),
    Defect("outbox row left", ("X6",),
           "insert into outbox values (uuid(), 'order.created', '', false)"),
    Defect("outbox row set aside", ("X6",),
           "insert into outbox values (uuid(), 'order.created', '', true)"),
    Defect("silent skip", ("E1", "E2"),
           "delete from inbox where consumer = 'orchestrator' and event_id in (select event_id"
           " from record where order_id = $happy and topic = 'shipping.result');"
           "delete from stored_output where cause_id in (select event_id from record where"
           " order_id = $happy and topic = 'shipping.result') and topic = 'none'"),
    Defect("commit ahead of its effect", ("E2", "E1", "T1"),
           "delete from inbox where consumer = 'shipping' and event_id in (select event_id"
           " from record where order_id = $refused and topic = 'shipping.requested')"),
    Defect("call begun and never ended", ("E1", "E2", "T1"),
           "update inbox set status = 1 where consumer = 'payment' and event_id in (select event_id"
           " from record where order_id = $happy and topic = 'payment.requested')"),
    Defect("retry lost", ("E1", "T1"),
           "update inbox set status = 2 where consumer = 'payment' and event_id in (select event_id"
           " from record where order_id = $happy and topic = 'payment.requested')"),
    Defect("brought back for a reader that is not there", ("E1",),
           "update record set retry_role = 'nobody' where order_id = $happy"
           " and topic = 'payment.result'"),
    Defect("event without a cause", ("E3",),
           "update record set causation = 'nobody' where order_id = $happy"
           " and topic = 'payment.result'"),
    Defect("correlation lost", ("E3",),
           "update record set correlation = 'other' where order_id = $happy"
           " and topic = 'payment.result'"),
    Defect("junk taken in", ("E4",),
           "update record set readable = false where order_id = $happy"
           " and topic = 'payment.result'"),
    # dead letters
    Defect("dead letter not indexed", ("D1",),
           "delete from letter_index where topic = 'payment.requested.dlt'"),
    Defect("dead letter forged in the index", ("D1",),
           "insert into letter_index by name select 'x.dlt' as topic, 0 as partition, 0 as"
           " \"offset\", 'x' as origin_topic, 0 as origin_partition, 0 as origin_offset,"
           " 'payment' as consumer"),
    Defect("dead letter of no record", ("D1", "E1", "E2", "X2"),
           "update record set origin_offset = 99999 where topic = 'order.created.dlt'"),
    Defect("dead letter dropped", ("D2", "X1", "D1", "O4", "T2"),
           "delete from record where topic = 'payment.requested.dlt' and order_id = $parked"),
    Defect("dead letters deleted behind the index's back",
           ("D2", "E1", "E2", "O4", "X1", "X2", "T2"),
           "update log_end set first_offset = before_offset where topic like '%.dlt';"
           "delete from record where topic like '%.dlt'; delete from letter_index"),
    Defect("dead-lettered and done", ("D2",),
           "update inbox set status = 0 where status = 3"),
    # tables, faults
    Defect("working copy drifts", ("T1",),
           "update changelog set body_hash = 'old' where tbl = 'sagas' and key = $happy::varchar"),
    Defect("no working copy of a living saga", ("T1",),
           "delete from changelog where tbl = 'sagas' and key = $parked::varchar"),
    Defect("working copy of nobody", ("T1",),
           f"insert into changelog values ('sagas', 0, 99999, '{GHOST}', 'x')"),
    Defect("table counts as finished what is not", ("T1",),
           f"insert into changelog values ('payment_idempotency', 0, 99999,"
           f" '{GHOST.replace('-', '')}', 'x')"),
    # service levels
    Defect("outcome counted twice", ("T2",),
           "update pane set good = good + 1, body_hash = 'x' where sli = 'availability'"
           " and width_s = 300 and good > 0;"
           "update changelog set body_hash = 'x' where tbl = 'slo_panes'"
           " and key like 'availability|300|%'"),
    Defect("pane lost", ("T2",),
           "delete from pane where sli = 'completion' and width_s = 10;"
           "delete from changelog where tbl = 'slo_panes' and key like 'completion|10|%'"),
    Defect("latency counted without its order", ("T2",),
           "update pane set latencies = latencies + 1 where sli = 'completion'"),
    Defect("dead letter that was never written counted", ("T2",),
           "update pane set bad = bad + 1 where sli = 'dead_letters' and width_s = 300"),
    Defect("copy of a dead letter counted", ("T2",),
           COPIED_LETTER + "update pane p set bad = bad + 1 from record r"
           " where p.sli = 'dead_letters' and r.topic = 'payment.requested.dlt'"
           " and r.\"offset\" >= 1000 and p.partition = r.partition"
           " and r.at_s >= p.start_s and r.at_s < p.start_s + p.width_s;"
           "insert into inbox by name select 'slo-letters' as consumer, position_id as event_id,"
           " 0 as status from record where \"offset\" >= 1000 and topic = 'payment.requested.dlt'"),
    Defect("changelog of panes behind PostgreSQL", ("T2",),
           "update changelog set body_hash = 'old' where tbl = 'slo_panes'"
           " and key like 'fraud|300|%'"),
    Defect("pane in the changelog alone", ("T2",),
           "insert into changelog by name select 'slo_panes' as tbl, 1 as partition,"
           " 99999 as \"offset\", 'fraud|300|' || (max(start_s) + 300) as key, 'x' as body_hash"
           " from pane"),
    # notifications
    Defect("told twice", ("N1",),
           "insert into notice by name select * replace (line + 1000 as line) from notice"
           " where order_id = $happy and kind = 'order_completed'"),
    Defect("end never told", ("N1",),
           "delete from notice where order_id = $happy and kind = 'order_completed';"
           "delete from notification where subject = $happy::varchar and kind = 'order_completed'"),
    Defect("recorded as sent and never was", ("N1",),
           "delete from notice where order_id = $happy and kind = 'order_received'"),
    Defect("told without a record", ("N1",),
           "delete from notification where subject = $happy::varchar and kind = 'order_received'"),
    Defect("begun and never sent", ("N1",),
           "update notification set status = 'INTENT' where subject = $happy::varchar;"
           "delete from notice where order_id = $happy and kind = 'order_received'"),
    Defect("told another end", ("N1",),
           "update notice set kind = 'order_cancelled' where order_id = $happy"
           " and kind = 'order_completed'"),
    Defect("told again as another occurrence", ("N1",),
           "insert into notification by name select * replace (uuid() as id, '2' as occurrence)"
           " from notification where subject = $happy::varchar and kind = 'order_completed';"
           "insert into notice by name select row_number() over () + 1000 as line, n.id, n.subject,"
           " n.subject::uuid as order_id, n.kind, n.occurrence, 1.0 as at_s from notification n"
           " where n.occurrence = '2'"),
    Defect("rule told twice of one version", ("N1",),
           f"{told('slow', 'chaos_injected', '7')};"
           f"{told('slow', 'chaos_injected', '7', again=1)}"),
    Defect("restock never told", ("N1",),
           f"{fell('MUTE', 100)};{told('MUTE', 'stock_low', '100')};{fell('MUTE', 200)}"),
    Defect("fault left on", ("A1",), "delete from action where phase = 'ended'"),
    Defect("fault that could not be undone", ("A1",),
           "update action set phase = 'not_undone', detail = 'toxic: refused'"
           " where phase = 'ended'"),
    Defect("fault never looked at", ("A1",), "delete from action where phase = 'proved'"),
)  # fmt: skip

REFUND_LOST = ("delete from gateway where order_id = $refused and op = 'refund';"
               "update attempt set status = 'REFUNDING' where order_id = $refused;")  # fmt: skip
STOCK_KEPT = (
    "update reservation set status = 'HELD' where order_id = $refused;"
    "update stock set held = held + l.quantity, available = available - l.quantity"
    " from reservation_line l where l.order_id = $refused and l.sku = stock.sku;"
)
NOT_CONSUMED = (
    "update reservation set status = 'HELD' where order_id = $happy;"
    "update stock set held = held + l.quantity, consumed = consumed - l.quantity"
    " from reservation_line l where l.order_id = $happy and l.sku = stock.sku;"
)
SHIPPED = "update shipment set status = 'SHIPPED' where order_id = $refused;"


def skipped(order: str, operation: str, reason: str = "by letter") -> str:
    """SQL by which an operator has given a command up."""
    return operated(order, "operator_skipped", "saga.skip", f"{operation} by eve: {reason}", reason)


#: What is excused by which waiver, and what each of them does not excuse.
WAIVED = (
    Defect("refund skipped", (), REFUND_LOST + skipped("refused", "refund")),
    Defect("refund skipped that had happened", (),
           "update attempt set status = 'REFUNDING' where order_id = $refused;"
           + skipped("refused", "refund")),
    Defect("release skipped", (), STOCK_KEPT + skipped("refused", "release")),
    Defect("shipping's cancel skipped", (), SHIPPED + skipped("refused", "cancel")),
    Defect("commit skipped", (), NOT_CONSUMED + skipped("happy", "commit")),
    Defect("turned back by an operator", (),
           "update request set expected = 'happy' where order_id = $refused;"
           "update saga set reason = 'operator' where order_id = $refused;"
           + operated("refused", "operator_compensated", "saga.compensate", "ship by eve")),
    Defect("another command of it skipped", ("P3", "P4"),
           REFUND_LOST + skipped("refused", "release")),
    Defect("another order's refund skipped", ("P3", "P4"),
           REFUND_LOST + skipped("sold_out", "refund")),
    Defect("skipped without a reason", ("P3", "P4"),
           REFUND_LOST + skipped("refused", "refund", "")),
    Defect("skip that is in no topic", ("P3", "P4", "X1"),
           REFUND_LOST + skipped("refused", "refund")
           + ";delete from record where topic = 'order.operate'"),
    Defect("skip that is in no audit log", ("O5", "P3", "P4"),
           REFUND_LOST + skipped("refused", "refund") + ";delete from act"),
    Defect("refunded twice and skipped", ("P3", "P4", "P5", "P6", "P7"),
           "insert into gateway by name select * replace (line + 1000 as line, 'random' as key)"
           " from gateway where order_id = $refused and op = 'refund';"
           + skipped("refused", "refund")),
    Defect("consumed by a cancelled order, release skipped", ("S1", "S3"),
           "update reservation set status = 'COMMITTED' where order_id = $refused;"
           + skipped("refused", "release")),
    Defect("never shipped, its cancel skipped", ("H1",),
           "delete from shipment where order_id = $happy;" + skipped("happy", "cancel")),
    Defect("no operator turned it back", ("O7",),
           "update request set expected = 'happy' where order_id = $refused;"
           "update saga set reason = 'operator' where order_id = $refused"),
)  # fmt: skip
