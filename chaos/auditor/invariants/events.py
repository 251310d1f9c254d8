"""X and E: what was decided stands in the topics, nothing else does, and all of it was taken in."""

from __future__ import annotations

from chaos.auditor.invariants.invariant import Book, Invariant, Kind
from chaos.auditor.platform import BARRIER_TYPE, DONE, PARKED_ROW, RETRYING, TICK_TOPIC

_BOOKS = (Book.POSTGRES, Book.TOPICS)
_KNOWN_HERE = """
select created_event as event_id from orders
union all select o.cancel_event from orders o semi join history h
       on h.order_id = o.order_id and h.event = '' and h.status = 'cancel_requested'
union all select event_id from act where event_id is not null
union all select reviewed_event from review where decision <> ''
union all select event_id from stored_output
"""
#: Whatever comes from people, through the API: its cause is a request.
_ASKED = ("order.created", "order.cancel", "order.operate", "order.reviewed")
_SKIPPED = """
select d.topic || '[' || d.partition || ']@' || d."offset", d.order_id,
       d.consumer || ' never took it in: ' || coalesce(d.event_id::varchar, 'no event id')
  from delivered d
 where {scope}
   and not exists (select 1 from inbox i
                    where i.consumer = d.consumer and i.event_id = d.event_id
                      and i.status in ({taken}))
   and not exists (select 1 from letter l
                    where l.origin_topic = d.topic and l.origin_partition = d.partition
                      and l.origin_offset = d."offset" and l.retry_role = d.consumer)
   and not exists (select 1 from loss x
                    where x.consumer = d.consumer and x.topic = d.topic
                      and x.partition = d.partition and x."offset" = d."offset")
"""
_EXAMINED = f"select count(*) from delivered d where d.type <> '{BARRIER_TYPE}'"
_COMMITTED = """exists (select 1 from committed c where c.consumer = d.consumer
   and c.topic = d.topic and c.partition = d.partition and d."offset" < c."offset")
"""
#: Its consumer has moved on, so its outputs were acknowledged.
_MOVED_ON = f"""(i."offset" < c."offset" or (i.topic = '{TICK_TOPIC}' and i.status = {DONE}))"""
_STORED = """stored_output s join inbox i on i.consumer = s.consumer and i.event_id = s.cause_id
          left join committed c on c.consumer = i.consumer and c.topic = i.topic
           and c.partition = i.partition"""

INVARIANTS = (
    Invariant(
        "X1",
        "no event is lost: whatever was committed stands in its topic",
        _BOOKS,
        f"select (select count(*) from orders) + (select count(*) from {_STORED}"
        f" where {_MOVED_ON})",
        # A consumer commits offsets when its outputs are acknowledged: no rest is needed to judge.
        f"""
        select o.order_id::varchar, o.order_id, 'its order.created is not in the topic: lost'
          from orders o where not exists (select 1 from record r
               where r.topic = 'order.created' and r.event_id = o.created_event)
           and not exists (select 1 from outbox b where b.event_id = o.created_event)
        union all
        select o.order_id::varchar, o.order_id, 'its order.cancel is not in the topic: lost'
          from orders o where o.order_id in (select order_id from history
               where event = '' and status = 'cancel_requested')
           and not exists (select 1 from record r
               where r.topic = 'order.cancel' and r.event_id = o.cancel_event)
           and not exists (select 1 from outbox b where b.event_id = o.cancel_event)
        union all
        select v.order_id::varchar, v.order_id, 'its order.reviewed is not in the topic: lost'
          from review v where v.decision <> '' and not exists (select 1 from record r
               where r.topic = 'order.reviewed' and r.event_id = v.reviewed_event)
           and not exists (select 1 from outbox b where b.event_id = v.reviewed_event)
        union all
        select a.target, try_cast(a.target as uuid), 'its order.operate is not in the topic: lost'
          from act a where a.action like 'saga.%'
           and not exists (select 1 from record r
               where r.topic = 'order.operate' and r.event_id = a.event_id)
           and not exists (select 1 from outbox b where b.event_id = a.event_id)
        union all
        select s.topic || ' ' || coalesce(s.event_id::varchar, ''), null::uuid,
               s.consumer || ' decided it for ' || s.cause_id || ', it is not in the topic: lost'
          from {_STORED}
         where {_MOVED_ON}
           and not exists (select 1 from record r
               where r.topic = s.topic and r.event_id is not distinct from s.event_id)
           and not exists (select 1 from letter l where l.deleted
               and l.topic = s.topic and l.event_id is not distinct from s.event_id)
        """,
    ),
    Invariant(
        "X2",
        "no event is a phantom: whatever stands in a topic was committed",
        _BOOKS,
        "select count(*) from fact",
        f"""
        select f.topic || '[' || f.partition || ']@' || f."offset", f.order_id,
               f.type || ' ' || coalesce(f.event_id::varchar, 'without an id')
               || ' was never committed'
          from fact f join log_end e on e.topic = f.topic and e.partition = f.partition
         where f."offset" < e.before_offset
           and not exists (select 1 from ({_KNOWN_HERE}) k where k.event_id = f.event_id)
           and not (coalesce(f.outcome, '') in ('RETRYING', 'PARKED') and exists
               (select 1 from inbox i where i.event_id = try_cast(f.causation as uuid)))
        """,
    ),
    Invariant(
        "X3",
        "a repeated event is the same event",
        _BOOKS,
        "select count(*) from fact",
        """
        select any_value(f.topic) || ' ' || f.event_id::varchar, any_value(f.order_id),
               'stands there with ' || count(distinct f.body_hash) || ' bodies'
          from fact f group by f.topic, f.event_id having count(distinct f.body_hash) > 1
        union all
        select f.topic || '[' || f.partition || ']@' || f."offset", f.order_id,
               'its body is not what ' || s.consumer || ' has stored'
          from fact f join stored_output s on s.topic = f.topic and s.event_id = f.event_id
         where s.body_hash <> f.body_hash
        union all
        select o.order_id::varchar, o.order_id, 'order.created says ' || f.total_minor || ' '
               || f.currency || ', the order is worth ' || o.total_minor || ' ' || o.currency
          from fact f join orders o on o.created_event = f.event_id
         where f.topic = 'order.created'
           and (f.total_minor, f.currency) is distinct from (o.total_minor, o.currency)
        """,
    ),
    Invariant(
        "X4",
        "an order's changes of status are announced in their order",
        _BOOKS,
        "select count(*) from fact where topic = 'order.status_changed'",
        """
        with first as (
            select topic, event_id, any_value(order_id) as order_id, any_value(partition) as part,
                   min("offset") as place, any_value(saga_version) as version
              from fact where topic = 'order.status_changed' group by topic, event_id)
        select order_id::varchar, order_id, 'version ' || version || ' was announced after '
               || before
          from (select *, lag(version) over (partition by order_id order by place) as before
                  from first)
         where version < before
        union all
        select h.order_id::varchar, h.order_id, 'became ' || h.status || ', announced '
               || coalesce(a.times, 0) || ' of ' || h.times || ' times'
          from (select order_id, status, count(*) as times from step where came_from <> status
                 group by all) h
          join order_state o on o.order_id = h.order_id and o.settled
          left join (select order_id, status, count(distinct event_id) as times from fact
                      where topic = 'order.status_changed' group by all) a
            on a.order_id = h.order_id and a.status = h.status
         where coalesce(a.times, 0) < h.times
        """,
    ),
    Invariant(
        "X5",
        "a key keeps its partition",
        (Book.TOPICS,),
        "select count(*) from fact",
        """
        select topic || ' ' || key, any_value(order_id), 'stands on partitions '
               || string_agg(distinct partition::varchar, ', ')
          from fact where key <> '' group by topic, key having count(distinct partition) > 1
        """,
    ),
    Invariant(
        "X6",
        "the outbox is empty",
        (Book.POSTGRES,),
        "select count(*) from orders",
        """
        select topic || ' ' || event_id, try_cast(order_id as uuid), case when parked
               then 'was set aside by the relay' else 'still waits in the outbox' end from outbox
        """,
        kind=Kind.LIVENESS,
    ),
    Invariant(
        "E1",
        "no silent skip: each consumer took in or dead-lettered every record",
        _BOOKS,
        _EXAMINED,
        # at rest whatever was tried again has ended: finished, or parked with a dead letter
        _SKIPPED.format(scope="true", taken=f"{DONE}, {PARKED_ROW}")
        + """
        union all
        select r.topic || '[' || r.partition || ']@' || r."offset", r.order_id,
               'is for ' || r.retry_role || ', which does not read there: nobody takes it in'
          from record r where r.retry_role <> ''
           and r.topic in (select topic from consumes where not raw)
           and not exists (select 1 from consumes c
                            where c.topic = r.topic and c.consumer = r.retry_role)
        """,
        at_rest=True,
    ),
    Invariant(
        "E2",
        "no commit ran ahead of its effects",
        _BOOKS,
        f"{_EXAMINED} and {_COMMITTED}",
        _SKIPPED.format(scope=_COMMITTED, taken=f"{DONE}, {RETRYING}, {PARKED_ROW}"),
    ),
    Invariant(
        "E3",
        "every event has its cause, and a saga one correlation id",
        _BOOKS,
        f"select count(*) from fact where topic not in {_ASKED}",
        f"""
        select f.topic || '[' || f.partition || ']@' || f."offset", f.order_id,
               'caused by ' || f.causation || ', which is nowhere'
          from fact f join log_end e on e.topic = f.topic and e.partition = f.partition
         where f."offset" < e.before_offset and f.topic not in {_ASKED}
           and f.type <> '{BARRIER_TYPE}'
           and not exists (select 1 from record r
                            where r.event_id = try_cast(f.causation as uuid))
           and not exists (select 1 from inbox i
                            where i.event_id = try_cast(f.causation as uuid))
        union all
        select any_value(f.key), f.order_id, 'its events have '
               || count(distinct f.correlation) || ' correlation ids'
          from fact f where f.topic not in {_ASKED[1:]} and f.order_id is not null
           and try_cast(f.causation as uuid) not in (select cancel_event from orders)
         group by f.order_id having count(distinct f.correlation) > 1
        """,
    ),
    Invariant(
        "E4",
        "what was taken in could be read",
        _BOOKS,
        _EXAMINED,
        f"""
        select d.topic || '[' || d.partition || ']@' || d."offset", d.order_id,
               d.consumer || ' took in what is no readable event'
          from delivered d join inbox i using (consumer, event_id)
         where not d.readable and i.status = 0 and d.type <> '{BARRIER_TYPE}'
           and d.topic in (select topic from consumes where not raw)
           and not exists (select 1 from record r
                            where r.topic = d.topic and r.event_id = d.event_id and r.readable)
        """,
    ),
)
