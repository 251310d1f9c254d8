"""T: the working copies of workers, as a successor would recover them, say what PostgreSQL says."""

from __future__ import annotations

from chaos.auditor.invariants.invariant import Book, Invariant

INVARIANTS = (
    Invariant(
        "T1",
        "the fold of a table's changelog says what PostgreSQL says",
        (Book.POSTGRES, Book.TOPICS),
        "select (select count(*) from working_copy)"
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
)
