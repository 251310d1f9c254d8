"""T: the working copies of workers, as a successor would recover them, say what PostgreSQL says;
and the sums that service levels are judged by are those of the topics."""

from __future__ import annotations

from chaos.auditor.invariants.invariant import Book, Invariant

_PANE = "sli || ' of ' || width_s || ' s from ' || start_s || ' [' || partition || ']'"

INVARIANTS = (
    Invariant(
        "T1",
        "the fold of a table's changelog says what PostgreSQL says",
        (Book.POSTGRES, Book.TOPICS),
        "select (select count(*) from working_copy where tbl <> 'slo_panes')"
        " + (select count(*) from saga where not terminal)",
        """
        select w.key, s.order_id, 'the working copy is not the saga of version ' || s.version
          from working_copy w join saga s on s.order_id = try_cast(w.key as uuid)
         where w.tbl = 'sagas' and w.body_hash <> s.body_hash
        union all
        select w.key, null::uuid, 'the working copy of a saga that PostgreSQL does not know'
          from working_copy w anti join saga s on s.order_id = try_cast(w.key as uuid)
         where w.tbl = 'sagas'
        union all
        select s.order_id::varchar, s.order_id, 'is ' || s.state || ', and no working copy is kept'
          from saga s where not s.terminal and not exists
               (select 1 from working_copy w where w.tbl = 'sagas'
                   and s.order_id = try_cast(w.key as uuid))
        union all
        select w.tbl || ' ' || w.key, null::uuid,
               'counts as finished, the inbox does not say so'
          from working_copy w where w.tbl like '%_idempotency' and not exists (
               select 1 from inbox i where i.event_id = try_cast(w.key as uuid) and i.status = 0
                  and w.tbl = i.consumer || '_idempotency')
        """,
        at_rest=True,
    ),
    Invariant(
        "T2",
        "service levels are counted as the topics tell, in PostgreSQL and in the changelog",
        (Book.POSTGRES, Book.TOPICS),
        "select (select count(*) from pane) + (select count(*) from recount)",
        f"""
        with kept as (
            select p.* from pane p join pane_width w using (width_s) where p.start_s > w.since_s),
        told as (
            select r.* from recount r join pane_width w using (width_s)
             where r.start_s > w.since_s)
        select {_PANE}, null::uuid,
               'holds ' || coalesce(p.good, 0) || ' good, ' || coalesce(p.bad, 0) || ' bad, '
               || coalesce(p.latencies, 0) || ' latencies; the topics say '
               || coalesce(r.good, 0) || ', ' || coalesce(r.bad, 0) || ', '
               || coalesce(r.latencies, 0)
          from kept p full join told r using (sli, width_s, start_s, partition)
         where coalesce(p.good, 0) <> coalesce(r.good, 0)
            or coalesce(p.latencies, 0) <> coalesce(r.latencies, 0)
            or coalesce(p.bad, 0) < coalesce(r.bad, 0)
            or (coalesce(p.bad, 0) > coalesce(r.bad, 0)
                and not (sli = 'dead_letters' and exists (select 1 from letter where deleted)))
        union all
        select {_PANE}, null::uuid, 'its copy in the changelog is another, or missing'
          from kept p anti join working_copy c
            on c.tbl = 'slo_panes' and c.partition = p.partition and c.body_hash = p.body_hash
           and c.key = p.sli || '|' || p.width_s || '|' || p.start_s
        union all
        select c.key || ' [' || c.partition || ']', null::uuid,
               'stands in the changelog, and PostgreSQL does not know it'
          from (select *, string_split(key, '|') as part from working_copy
                 where tbl = 'slo_panes') c
          join pane_width w on w.width_s = try_cast(c.part[2] as integer)
          anti join pane p on c.partition = p.partition
           and c.key = p.sli || '|' || p.width_s || '|' || p.start_s
         where try_cast(c.part[3] as bigint) > w.since_s
        """,
        at_rest=True,
        optional=True,
    ),
)
