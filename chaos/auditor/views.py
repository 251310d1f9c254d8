"""What several invariants ask for, as views over the store's tables."""

from __future__ import annotations

from collections.abc import Mapping

from chaos.auditor.platform import (
    BARRIER_TYPE,
    CONSUMERS,
    DEAD_LETTER_SUFFIX,
    EDGES,
    EXPECTED_ENDS,
    INDEX_CONSUMER,
    NOTICES,
    NOTIFIER,
    OPERATE,
    OPERATIONS,
    PARKED,
    RAW_CONSUMERS,
    SKIPPED,
    STATUS_CHANGED,
    TOLD_REPLIES,
    TOLD_STATUSES,
)
from chaos.auditor.store import Store

KNOWLEDGE = ("consumes", "edge", "operation", "expected_end")
"""Tables that hold no book but what the auditor expects."""

_TOLD = f"""coalesce(case
        when r.topic = '{STATUS_CHANGED}' then r.status in {TOLD_STATUSES}
        when r.topic like '%.result' then r.outcome = '{PARKED}'
             or (r.topic, r.operation, r.outcome) in {TOLD_REPLIES}
        else true end, true)"""
_VIEWS = f"""
create view order_state as
select o.order_id, o.total_minor, o.currency, coalesce(s.state, 'PENDING') as status,
       coalesce(s.reason, '') as reason, coalesce(s.terminal, false) as settled,
       coalesce(s.version, 0) as version,
       coalesce(s.state, '') in ('COMPLETED', 'CANCELLED', 'REJECTED') as final
  from orders o left join saga s using (order_id);

-- Money that moved at the provider; replayed answers and refusals moved none.
create view moved as
select *, case op when 'charge' then amount_minor else -amount_minor end as signed_minor
  from gateway where outcome = 'ok' and op in ('charge', 'refund');

create view money as
select order_text, any_value(order_id) as order_id,
       count(*) filter (op = 'charge') as charges, count(*) filter (op = 'refund') as refunds,
       coalesce(sum(amount_minor) filter (op = 'charge'), 0) as captured_minor,
       coalesce(sum(amount_minor) filter (op = 'refund'), 0) as refunded_minor,
       count(distinct currency) as currencies, any_value(currency) as currency
  from moved group by order_text;

-- Dead letters that a purge, or the topic's retention, has deleted: the index still tells of them.
create view letter as
select *, false as deleted from record where topic like '%{DEAD_LETTER_SUFFIX}'
union all by name
select n.topic, n.partition, n."offset", n.at_s, coalesce(n.order_id::varchar, '') as key,
       n.order_id, n.event_id, n.consumer as retry_role, n.origin_topic, n.origin_partition,
       n.origin_offset, 'deleted' as error, true as deleted
  from letter_index n join log_end e on e.topic = n.topic and e.partition = n.partition
 where n."offset" < e.first_offset;

-- Events as consumers must have taken them in, barriers included.
create view delivered as
select c.consumer, r.topic, r.partition, r."offset", r.at_s, r.order_id,
       case when c.raw then r.position_id else r.event_id end as event_id, r.readable, r.type
  from record r join consumes c on c.topic = r.topic
 where (c.raw or r.retry_role = '' or r.retry_role = c.consumer)
   and (c.consumer <> '{NOTIFIER}' or not r.readable or r.type = '{BARRIER_TYPE}' or {_TOLD});

-- Decodable facts on message topics that some consumer did not refuse as a dead letter.
create view fact as
select r.* from record r
 where r.type <> '{BARRIER_TYPE}' and r.position_id is null and r.topic not in {NOTICES}
   and not exists
       (select 1 from letter l where l.origin_topic = r.topic
           and l.origin_partition = r.partition and l.origin_offset = r."offset");

-- The orchestrator's lines of a history; the API's have no event.
create view step as
select *, lag(status, 1, '') over (partition by order_id order by id) as came_from,
       lag(version, 1, 0) over (partition by order_id order by id) as version_before
  from history where event <> '';

-- What operators did to a saga, with the act in the audit log that stands behind it.
create view operated as
select h.id, h.order_id, h.event, regexp_extract(h.reason, '^([a-z]+) by ', 1) as what,
       a.actor as who, a.reason as why, h.at_s
  from history h join operation o on o.event = h.event
  join act a on a.event_id = try_cast(h.cause_id as uuid)
   and try_cast(a.target as uuid) = h.order_id
   and (a.action = o.action or (o.action = '' and a.action like 'saga.%'));

-- A command that an operator gave up, asked for in all three places: excuses what follows from it.
create view waiver as
select distinct order_id, what, who, why, at_s from operated w
 where event = '{SKIPPED}' and why <> '' and exists (select 1 from fact f
       join history h on h.id = w.id and f.event_id = try_cast(h.cause_id as uuid)
        and f.order_id = w.order_id where f.topic = '{OPERATE}');

-- A refund that the provider has made and PostgreSQL cannot know of: given up by an operator, or of
-- a parked order, never answered. Driving it again under its key will tell.
create view given_back as
select a.order_id from attempt a join order_state o using (order_id)
  left join money m on m.order_id = a.order_id
 where a.status = 'REFUNDING' and coalesce(m.captured_minor, 0) = coalesce(m.refunded_minor, 0)
   and (o.status = 'PARKED' and m.refunds = 1
        or exists (select 1 from waiver w where w.order_id = a.order_id and w.what = 'refund'));

-- A parked order whose charge was never answered: the provider may have taken the money, whole and
-- once, and PostgreSQL says that it does not know. Redriving the charge under its key will tell.
create view unanswered as
select a.order_id from attempt a join order_state o using (order_id) join money m using (order_id)
 where o.status = 'PARKED' and a.status in ('INTENT', 'CANCELLING') and m.charges = 1
   and m.captured_minor = a.amount_minor and m.refunds = 0 and m.currency = a.currency;

create view working_copy as
select tbl, key, arg_max(body_hash, "offset") as body_hash
  from (select tbl, partition, key, "offset", coalesce(body_hash, '') as body_hash from changelog)
 group by tbl, partition, key having arg_max(body_hash, "offset") <> '';
"""


def prepare(store: Store, consumers: Mapping[str, tuple[str, ...]] = CONSUMERS) -> None:
    """Fill what the auditor knows of the platform, and make the views. Call once, after reading."""
    raw = {**RAW_CONSUMERS, INDEX_CONSUMER: ()}
    found = store.rows("select distinct topic from record where topic like ?",
                       ["%" + DEAD_LETTER_SUFFIX])  # fmt: skip
    letters = tuple(topic for (topic,) in found)
    listed = [
        {"consumer": consumer, "topic": topic, "raw": consumer in raw}
        for consumer, topics in {**consumers, **RAW_CONSUMERS, INDEX_CONSUMER: letters}.items()
        for topic in topics
    ]
    store.insert("consumes", listed)
    store.insert("edge", [{"source": a, "target": b} for a, b in sorted(EDGES)])
    store.insert("operation", [{"event": e, "action": a} for e, a in OPERATIONS.items()])
    store.insert(
        "expected_end",
        [
            {"class": name, "rank": rank, "status": status, "reason": reason}
            for rank, (name, (status, reason)) in enumerate(EXPECTED_ENDS.items())
        ],
    )
    store.execute(_VIEWS)
