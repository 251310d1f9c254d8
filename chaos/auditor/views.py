"""What several invariants ask for, as views over the store's tables."""

from __future__ import annotations

from collections.abc import Mapping

from chaos.auditor.platform import (
    BARRIER_TYPE,
    BUSINESS_REASONS,
    COARSE_S,
    COARSE_S_MIN,
    COARSE_WINDOW_S,
    COMPLETION_MAX_S,
    CONSUMERS,
    COUNTED_STATUSES,
    COUNTER,
    DEAD_LETTER_SUFFIX,
    DONE,
    EDGES,
    EXPECTED_ENDS,
    FINE_S,
    FINE_WINDOW_S,
    INDEX_CONSUMER,
    LETTER_COUNTER,
    NOTICES,
    NOTIFIER,
    OPERATE,
    OPERATIONS,
    PARKED,
    RAW_CONSUMERS,
    REVIEWED,
    SKEW_MAX_S,
    SKIPPED,
    STATUS_CHANGED,
    TIME_SCALE_MAX,
    TOLD_REPLIES,
    TOLD_STATUSES,
)
from chaos.auditor.store import Store

KNOWLEDGE = ("consumes", "edge", "operation", "expected_end", "pane_width")
"""Tables that hold no book but what the auditor expects."""

_TOLD = f"""coalesce(case
        when r.topic = '{STATUS_CHANGED}' then r.status in {TOLD_STATUSES}
        when r.topic = '{REVIEWED}' then r.approved
        when r.topic like '%.result' then r.outcome = '{PARKED}'
             or (r.topic, r.operation, r.outcome) in {TOLD_REPLIES}
        else true end, true)"""
_STATUSES = ", ".join(f"'{status}'" for status in COUNTED_STATUSES)
_BUSINESS = ", ".join(f"'{reason}'" for reason in BUSINESS_REASONS)
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
       case when c.consumer = '{LETTER_COUNTER}' then r.letter_id when c.raw then r.position_id
            else r.event_id end as event_id, r.readable, r.type
  from record r join consumes c on c.topic = r.topic
 where (c.raw or r.retry_role = '' or r.retry_role = c.consumer)
   and (c.consumer <> '{NOTIFIER}' or not r.readable or r.type = '{BARRIER_TYPE}' or {_TOLD})
   and (c.consumer <> '{COUNTER}' or not r.readable or r.type = '{BARRIER_TYPE}'
        or coalesce(r.status in ({_STATUSES}), false));

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
select tbl, partition, key, arg_max(body_hash, "offset") as body_hash
  from (select tbl, partition, key, "offset", coalesce(body_hash, '') as body_hash from changelog)
 group by tbl, partition, key having arg_max(body_hash, "offset") <> '';

-- Changes of status that role slo has counted: the first copy of each, as its envelope tells the
-- time; what comes from the future counts as of its arrival.
create view counted as
select r.event_id, r.order_id, r.partition, r.status, coalesce(r.reason, '') as reason,
       coalesce(r.held, false) as held, coalesce(r.said_s, r.at_s) - r.created_s as took_s,
       case when coalesce(r.said_s, r.at_s) > r.at_s + {SKEW_MAX_S} then r.at_s
            else coalesce(r.said_s, r.at_s) end as at_s
  from (select *, row_number() over (partition by event_id order by "offset") as copy from record
         where topic = '{STATUS_CHANGED}' and status in ({_STATUSES})
           and retry_role in ('', '{COUNTER}')) r
  semi join inbox i on i.consumer = '{COUNTER}' and i.event_id = r.event_id and i.status = {DONE}
 where r.copy = 1;

-- Dead letters that role slo has counted: the first copy of each, for a step that is repeated
-- publishes its letters again. A copy whose first may have been deleted says nothing of when.
create view counted_letter as
select r.partition, r.at_s
  from (select *, row_number() over (partition by letter_id order by "offset") as copy from record
         where topic like '%{DEAD_LETTER_SUFFIX}') r
  semi join inbox i
    on i.consumer = '{LETTER_COUNTER}' and i.event_id = r.letter_id and i.status = {DONE}
 where r.copy = 1 and not exists
       (select 1 from letter l where l.deleted and l.topic = r.topic
           and l.retry_role = r.retry_role and l.origin_topic = r.origin_topic
           and l.origin_partition = r.origin_partition and l.origin_offset = r.origin_offset);

create view said as
select 'availability' as sli, partition, at_s, null::double as took_s,
       status <> '{PARKED}' and reason in ({_BUSINESS}) as good
  from counted where status <> 'REVIEW'
union all
select 'fraud', partition, at_s, null, status <> 'REVIEW'
  from counted where status = 'REVIEW' or (status <> '{PARKED}' and not held)
union all
select 'completion', partition, at_s, took_s, took_s <= {COMPLETION_MAX_S}
  from counted where status = 'COMPLETED' and not held and took_s >= 0
union all
select 'dead_letters', partition, at_s, null, false from counted_letter;

create view recount as
select s.sli, w.width_s, (floor(s.at_s / w.width_s) * w.width_s)::bigint as start_s, s.partition,
       count(*) filter (s.good) as good, count(*) filter (not s.good) as bad,
       count(s.took_s) as latencies
  from said s cross join pane_width w group by all;
"""


def prepare(store: Store, consumers: Mapping[str, tuple[str, ...]] = CONSUMERS) -> None:
    """Fill what the auditor knows of the platform, and make the views. Call once, after reading."""
    raw = {**RAW_CONSUMERS, INDEX_CONSUMER: (), LETTER_COUNTER: ()}
    found = store.rows("select distinct topic from record where topic like ?",
                       ["%" + DEAD_LETTER_SUFFIX])  # fmt: skip
    letters = tuple(topic for (topic,) in found)
    reads = {**consumers, **RAW_CONSUMERS, INDEX_CONSUMER: letters}
    if COUNTER in consumers:
        reads[LETTER_COUNTER] = letters
    listed = [
        {"consumer": consumer, "topic": topic, "raw": consumer in raw}
        for consumer, topics in reads.items()
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
    store.insert("pane_width", _widths(store))
    store.execute(_VIEWS)


def _widths(store: Store) -> list[dict[str, float]]:
    """The widths of panes, and since when a window still needs them: older ones may be gone.

    Both follow from the time scale, and that from the widths that are there: rounding leaves it a
    little open, so the fastest scale is taken that fits.
    """
    found = sorted(width for (width,) in store.rows("select distinct width_s from pane"))
    coarse_s = found[-1] if found else COARSE_S
    # fine panes leave first: without orders for a while there are none
    fine_s = found[0] if len(found) > 1 else max(1, round(FINE_S * coarse_s / COARSE_S))
    if found and coarse_s == COARSE_S:
        scale = 1.0
    elif found and coarse_s > COARSE_S_MIN:
        scale = COARSE_S / (coarse_s - 0.5)
    else:
        scale = TIME_SCALE_MAX
    at_s = max((at for (at,) in store.rows("select at_s from instant")), default=0.0)
    return [
        {"width_s": width_s, "since_s": at_s - window_s / scale}
        for width_s, window_s in ((fine_s, FINE_WINDOW_S), (coarse_s, COARSE_WINDOW_S))
    ]
