"""N: customers and operators are told once, and of everything they must be told of.

The sink's book decides what was told; PostgreSQL must agree with it. What failed for good is a dead
letter of the consumer, and an operator's business.
"""

from __future__ import annotations

from chaos.auditor.invariants.invariant import Book, Invariant
from chaos.auditor.platform import NOTIFIER, RECURRING, STOCK_LOW, TOLD_ENDS, TOLD_LEVELS

_ENDS = ", ".join(f"('{status}', '{kind}')" for status, kind in TOLD_ENDS.items())
_LEVELS = ", ".join(f"('{level}', '{kind}')" for level, kind in TOLD_LEVELS.items())
_PARKED = f"""exists (select 1 from letter l where l.retry_role = '{NOTIFIER}'
       and (l.event_id = {{event}} or l.order_id = {{order}}))"""

INVARIANTS = (
    Invariant(
        "N1",
        "one notification per subject, kind and occurrence, of every order's end and low stock",
        (Book.POSTGRES, Book.TOPICS, Book.NOTICES),
        "select count(*) from notice",
        f"""
        with ends(status, kind) as (values {_ENDS}), levels(level, kind) as (values {_LEVELS})
        select subject || ' ' || kind, any_value(order_id), 'told ' || count(*) || ' times'
          from notice
         group by subject, kind, case when kind in {RECURRING} then occurrence else '' end
        having count(*) > 1
        union all
        select n.subject || ' ' || n.kind, try_cast(n.subject as uuid),
               'recorded as sent, the sink never got it'
          from notification n anti join notice s on s.id = n.id where n.status = 'SENT'
        union all
        select s.subject || ' ' || s.kind, s.order_id, 'told, and nothing is recorded of it'
          from notice s anti join notification n on n.id = s.id
        union all
        select n.subject || ' ' || n.kind, try_cast(n.subject as uuid), 'begun and never sent'
          from notification n where n.status <> 'SENT'
           and not {_PARKED.format(event="n.event_id", order="try_cast(n.subject as uuid)")}
        union all
        select o.order_id::varchar, o.order_id, o.status || ', and nobody was told: no ' || e.kind
          from order_state o join ends e on e.status = o.status
         where o.final and o.settled and exists (select 1 from notice)
           and not exists (select 1 from notice s where s.order_id = o.order_id and s.kind = e.kind)
           and not {_PARKED.format(event="null", order="o.order_id")}
        union all
        select s.order_id::varchar, s.order_id, 'told ' || s.kind || ', it is ' || o.status
          from notice s join ends e on e.kind = s.kind join order_state o on o.order_id = s.order_id
         where o.final and o.status <> e.status
        union all
        select distinct f.key || ' ' || l.kind, null::uuid,
               'fell with ' || coalesce(f.restocked, 0) || ' put in, and nobody was told'
          from fact f join levels l on l.level = f.level
         where f.topic = '{STOCK_LOW}' and f.readable and exists (select 1 from notice)
           and not exists (select 1 from notice s where s.subject = f.key and s.kind = l.kind
               and s.occurrence = coalesce(f.restocked, 0)::varchar)
           and not {_PARKED.format(event="f.event_id", order="null")}
        """,
        at_rest=True,
        optional=True,
    ),
)
