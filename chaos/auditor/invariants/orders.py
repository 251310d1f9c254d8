"""O: accepted orders exist once, end, end rightly, and tell one history."""

from __future__ import annotations

from chaos.auditor.invariants.invariant import Book, Invariant, Kind
from chaos.auditor.platform import SKIPPABLE, SKIPPED, TURNED_BACK

_ACCEPTED = """
select order_id, expected from request where kind = 'create' and outcome = 'ok'
union
select k.order_id, r.expected from request r join idempotency k using (key)
 where r.kind = 'create' and r.outcome = 'unknown' and r.key <> ''
"""

#: First requests for an order, and the same again under the same key.
_ORDERED = "kind in ('create', 'repeat')"
#: A timeout, a decline that the gateway drew for itself, and an operator who turned it back excuse
#: an order from its class.
_JUDGED = f"""
({_ACCEPTED}) a join order_state o using (order_id)
  join expected_end e on e.class = a.expected
 where o.final and o.reason <> 'timeout'
   and not (o.reason = 'operator' and o.order_id in
        (select order_id from operated where event = '{TURNED_BACK}'))
   and not (o.reason = 'payment_declined' and e.class <> 'declined' and o.order_id in
        (select order_id from gateway where outcome = 'declined'))
"""

INVARIANTS = (
    Invariant(
        "O1",
        "every accepted order exists, once",
        (Book.LOAD, Book.POSTGRES, Book.TOPICS),
        f"select count(*) from request where {_ORDERED} and outcome = 'ok'",
        f"""
        select r.order_id::varchar, r.order_id, 'accepted, but not in PostgreSQL: lost'
          from request r anti join orders o using (order_id)
         where {_ORDERED} and r.outcome = 'ok' and r.order_id is not null
        union all
        select coalesce(nullif(r.key, ''), r.op), any_value(r.order_id),
               'two orders for one request: ' || string_agg(distinct f.key, ', ')
          from request r join fact f on f.correlation = r.request_id and f.topic = 'order.created'
         where {_ORDERED} and r.request_id <> ''
         group by coalesce(nullif(r.key, ''), r.op) having count(distinct f.key) > 1
        """,
    ),
    Invariant(
        "O2",
        "a refused request left no order",
        (Book.LOAD, Book.POSTGRES, Book.TOPICS),
        "select count(*) from request where kind <> 'cancel' and outcome = 'fail'",
        """
        select r.op, k.order_id, 'refused (' || r.detail || '), yet its key holds an order'
          from request r join idempotency k using (key)
         where r.kind = 'create' and r.outcome = 'fail' and r.key <> ''
           and not exists (select 1 from request a where a.key = r.key and a.op <> r.op
                              and a.kind = 'create' and a.outcome <> 'fail')
        union all
        select r.op, f.order_id, 'refused (' || r.detail || '), yet there is order ' || f.key
          from request r join fact f on f.correlation = r.request_id and f.topic = 'order.created'
         where r.kind <> 'cancel' and r.outcome = 'fail' and r.request_id <> ''
        """,
        optional=True,
    ),
    Invariant(
        "O3",
        "one idempotency key is one order and one reply; another body is refused",
        (Book.LOAD, Book.POSTGRES),
        "select count(distinct key) from request"
        " where kind in ('repeat', 'conflict') and outcome <> 'unknown'",
        f"""
        select r.op, r.order_id, 'its idempotency key holds another order: ' || k.order_id::varchar
          from request r join idempotency k using (key)
         where {_ORDERED} and r.outcome = 'ok' and k.order_id <> r.order_id
        union all
        select key, any_value(order_id), 'one key was accepted with '
               || count(distinct body_hash) || ' bodies and answered '
               || count(distinct order_id) || ' orders in '
               || count(distinct nullif(reply_hash, '')) || ' replies'
          from request where kind <> 'cancel' and outcome = 'ok' and key <> ''
         group by key having count(distinct body_hash) > 1 or count(distinct order_id) > 1
             or count(distinct nullif(reply_hash, '')) > 1
        union all
        select op, order_id, 'another body was accepted under its key'
          from request where kind = 'conflict' and outcome = 'ok'
        """,
        optional=True,
    ),
    Invariant(
        "O4",
        "every order ends, or is parked with a dead letter that names it",
        (Book.POSTGRES, Book.TOPICS),
        "select count(*) from orders",
        """
        select order_id::varchar, order_id, case
               when status = 'PARKED' then 'PARKED (' || reason || ') without a dead letter'
               when not final then 'still ' || status || ': lost or stuck'
               else status || ', but a command is still outstanding' end
          from order_state o
         where (status <> 'PARKED' and not (final and settled)
                and not (status = 'REVIEW' and exists
                    (select 1 from review v where v.order_id = o.order_id and v.decision = '')))
            or (status = 'PARKED' and not exists
                (select 1 from letter l where l.order_id = o.order_id))
        union all
        select h.order_id::varchar, h.order_id, 'its cancellation was never decided'
          from history h join order_state o using (order_id)
         where h.event = '' and h.status = 'cancel_requested' and o.status = 'COMPLETED'
           and not exists (select 1 from history d
                            where d.order_id = h.order_id and d.event = 'cancel_requested')
        """,
        kind=Kind.LIVENESS,
    ),
    Invariant(
        "O5",
        "a history is a path of the saga, ends once, in the order's state",
        (Book.POSTGRES,),
        "select count(*) from step",
        f"""
        select order_id::varchar, order_id, case
               when came_from in ('COMPLETED', 'CANCELLED', 'REJECTED')
               then 'went on after its end: ' || came_from || ' > ' || status
               else 'no legal step: ' || came_from || ' > ' || status || ' (' || event || ')' end
          from step where came_from <> status
           and (came_from, status) not in (select (source, target) from edge)
        union all
        select order_id::varchar, order_id,
               'version ' || version || ' was written after ' || version_before
          from step where version < version_before
        union all
        select s.order_id::varchar, s.order_id, case
               when h.last is null then 'is ' || s.state || ' without a history'
               when h.last <> s.state then 'is ' || s.state || ', its history ends ' || h.last
               else 'is at version ' || s.version || ', its history at ' || h.version end
          from saga s left join
               (select order_id, arg_max(status, id) as last, max(version) as version
                  from step group by order_id) h using (order_id)
         where h.last is null or h.last <> s.state or h.version > s.version
        union all
        select h.order_id::varchar, h.order_id, h.event || ' (' || h.reason || '), but no operator'
               || ' asked for it'
          from history h join operation o on o.event = h.event
         where h.id not in (select id from operated)
        union all
        select order_id::varchar, order_id, 'skipped ' || what || ', which nobody may skip'
          from operated where event = '{SKIPPED}' and what not in {SKIPPABLE}
        union all
        select order_id::varchar, order_id, 'a saga without an order'
          from saga anti join orders using (order_id) where terminal
        """,
    ),
    Invariant(
        "O6",
        "an order's total is the sum of its lines",
        (Book.POSTGRES,),
        "select count(*) from orders",
        """
        select o.order_id::varchar, o.order_id, 'total ' || o.total_minor || ', its lines sum to '
               || coalesce(sum(i.quantity * i.unit_price_minor), 0)
          from orders o left join item i using (order_id)
         group by o.order_id, o.total_minor
        having coalesce(sum(i.quantity * i.unit_price_minor), 0) <> o.total_minor
        """,
    ),
    Invariant(
        "O7",
        "each order of a known class ends as that class must",
        (Book.LOAD, Book.POSTGRES, Book.GATEWAY),
        f"select count(*) from {_JUDGED}",
        f"""
        with judged as (
            select j.*, c.outcome as cancel
              from (select o.order_id, o.status, o.reason, e.class, e.status as wanted,
                           e.reason as why from {_JUDGED}) j
              left join request c on c.order_id = j.order_id and c.kind = 'cancel')
        select j.order_id::varchar, j.order_id,
               'ended ' || status || ' ' || reason || ', expected ' || class
          from judged j
         where case
               when class = 'cancelled' and status = 'COMPLETED'
               then cancel = 'ok' and not exists (select 1 from history h
                    where h.order_id = j.order_id and h.event = 'cancel_refused')
               when class = 'cancelled' and coalesce(cancel, 'fail') = 'fail' then true
               else (status, reason) <> (wanted, why) end
        """,
    ),
    Invariant(
        "O8",
        "an order goes the way its review went, and none is rejected without one",
        (Book.POSTGRES,),
        "select count(*) from orders",
        """
        select o.order_id::varchar, o.order_id, 'is ' || o.status || ', but was '
               || case when v.decision is null then 'never held for a review'
                       when v.decision = '' then 'held, and nobody has decided'
                       else v.decision end
          from order_state o left join review v using (order_id)
         where case
               when v.decision is null then o.status in ('REVIEW', 'REJECTED')
               when v.decision = '' then o.status not in ('PENDING', 'REVIEW', 'CANCELLED')
               when v.decision = 'APPROVED' then o.status = 'REJECTED'
               else o.status not in ('PENDING', 'REVIEW', 'REJECTED', 'CANCELLED') end
        """,
    ),
)
