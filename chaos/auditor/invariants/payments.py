"""P: what the payment provider captured and gave back against what orders are worth.

The provider's ledger decides what happened; PostgreSQL must agree with it. An operator's waiver of
a refund excuses the money that was kept because of it, and nothing else. A parked order whose
charge was never answered may have been charged: that is what it is parked for.
"""

from __future__ import annotations

from chaos.auditor.invariants.invariant import Book, Invariant

_REFUND_WAIVED = "o.order_id in (select order_id from waiver where what = 'refund')"
_BOTH = (Book.GATEWAY, Book.POSTGRES)

INVARIANTS = (
    Invariant(
        "P1",
        "an order is charged at most once",
        (Book.GATEWAY,),
        "select count(distinct order_text) from moved where op = 'charge'",
        "select order_text, order_id, charges || ' charges of ' || captured_minor || ' in all'"
        " from money where charges > 1",
    ),
    Invariant(
        "P2",
        "a completed order: its total was captured and kept",
        _BOTH,
        "select count(*) from order_state where status = 'COMPLETED'",
        """
        select o.order_id::varchar, o.order_id, case
               when m.order_id is null then 'COMPLETED without a charge'
               when m.refunds > 0 then 'COMPLETED, yet ' || m.refunded_minor || ' was refunded'
               else 'charged ' || m.captured_minor || ' ' || m.currency || ', its total is '
                    || o.total_minor || ' ' || o.currency end
          from order_state o left join money m using (order_id)
         where o.status = 'COMPLETED' and (m.order_id is null or m.refunds > 0
            or m.captured_minor <> o.total_minor or m.currency <> o.currency
            or m.currencies > 1)
        """,
    ),
    Invariant(
        "P3",
        "a cancelled or rejected order: what was captured was refunded",
        _BOTH,
        "select count(*) from order_state where final and settled and status <> 'COMPLETED'",
        f"""
        select o.order_id::varchar, o.order_id, o.status || ': ' || m.captured_minor
               || ' charged, ' || m.refunded_minor || ' given back in ' || m.currencies
               || ' currencies'
          from order_state o join money m using (order_id)
         where o.final and o.settled and o.status <> 'COMPLETED'
           and (m.captured_minor <> m.refunded_minor or m.currencies > 1)
           and not (m.captured_minor > m.refunded_minor and m.currencies = 1 and {_REFUND_WAIVED})
        """,
    ),
    Invariant(
        "P4",
        "bank: money held = completed orders + parked ones, = PostgreSQL's payments",
        _BOTH,
        "select count(distinct currency) from moved",
        f"""
        with held as (select currency, sum(signed_minor) as minor from moved group by 1),
        earned as (
            select o.currency, sum(case when o.status = 'COMPLETED' then o.total_minor
                                        else m.captured_minor - m.refunded_minor end) as minor
              from order_state o left join money m using (order_id)
             where o.status in ('COMPLETED', 'PARKED') or {_REFUND_WAIVED} group by 1),
        booked as (select currency, sum(amount_minor) as minor from attempt
                    where status in ('CHARGED', 'REFUNDING')
                          and order_id not in (select order_id from given_back)
                       or order_id in (select order_id from unanswered) group by 1)
        select currency, null::uuid, 'the provider holds ' || coalesce(h.minor, 0)
               || ', orders are worth ' || coalesce(e.minor, 0)
               || ', payments are booked for ' || coalesce(b.minor, 0)
          from held h full join earned e using (currency) full join booked b using (currency)
         where coalesce(h.minor, 0) <> coalesce(e.minor, 0)
            or coalesce(h.minor, 0) <> coalesce(b.minor, 0)
        """,
        at_rest=True,
    ),
    Invariant(
        "P5",
        "a refund follows its capture, once, and is no more than it",
        (Book.GATEWAY,),
        "select count(*) from moved where op = 'refund'",
        """
        select order_text, order_id, refunds || ' refunds of ' || refunded_minor || ' for '
               || captured_minor || ' captured'
          from money where refunds > 1 or refunded_minor > captured_minor
        union all
        select r.order_text, r.order_id, 'refunded at line ' || r.line || ', before its capture'
          from moved r where r.op = 'refund' and exists (select 1 from moved c
               where c.op = 'charge' and c.order_text = r.order_text and c.line > r.line)
        """,
        optional=True,
    ),
    Invariant(
        "P6",
        "provider and PostgreSQL agree, order by order, on the money held",
        _BOTH,
        "select count(*) from (select order_text from money union"
        " select order_id::varchar from attempt)",
        """
        select coalesce(m.order_text, a.order_id::varchar), coalesce(m.order_id, a.order_id), case
               when m.order_id is null and a.order_id is null
               then 'the provider knows it, PostgreSQL has no such order'
               else 'the provider holds ' || coalesce(m.captured_minor - m.refunded_minor, 0)
                    || ', PostgreSQL says ' || coalesce(a.held_minor, 0)
                    || ' (' || coalesce(a.states, 'no payment') || ')' end
          from money m full join (
               select order_id, string_agg(status, ', ') as states,
                      sum(amount_minor) filter (status in ('CHARGED', 'REFUNDING')) as held_minor
                 from attempt group by order_id) a using (order_id)
         where (coalesce(m.captured_minor - m.refunded_minor, 0) <> coalesce(a.held_minor, 0)
                and coalesce(a.order_id not in (select order_id from given_back), true)
                and coalesce(a.order_id not in (select order_id from unanswered), true))
            or (m.order_text is not null and m.order_id is null)
        """,
        at_rest=True,
    ),
    Invariant(
        "P7",
        "one idempotency key is one request; a new key only after a definite refusal",
        (Book.GATEWAY,),
        "select count(*) from gateway",
        """
        select key, any_value(order_id), 'used with ' || count(distinct body_hash) || ' bodies, '
               || count(distinct op) || ' operations'
          from gateway where outcome <> 'mismatch' and op <> 'cancel' and body_hash <> ''
         group by key having count(distinct body_hash) > 1 or count(distinct op) > 1
        union all
        select key, order_id, 'reused with another body (line ' || line || ')'
          from gateway where outcome = 'mismatch'
        union all
        select order_text, any_value(order_id), op || ' under ' || count(distinct key) || ' keys: '
               || string_agg(distinct key, ', ')
          from gateway where op in ('charge', 'refund') and key not in
               (select key from gateway where outcome in ('declined', 'refused'))
         group by order_text, op having count(distinct key) > 1
        """,
    ),
)
