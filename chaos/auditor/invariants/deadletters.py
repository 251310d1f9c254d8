"""D: what failed for good is kept, indexed, and not also done behind the operator's back."""

from __future__ import annotations

from chaos.auditor.invariants.invariant import Book, Invariant

_BOOKS = (Book.POSTGRES, Book.TOPICS)

INVARIANTS = (
    Invariant(
        "D1",
        "a dead letter names a real record and is indexed once",
        _BOOKS,
        "select (select count(*) from letter) + (select count(*) from letter_index)",
        """
        select l.topic || '[' || l.partition || ']@' || l."offset", l.order_id, case
               when n.times is null then 'is not in the index'
               else 'stands ' || n.times || ' times in the index' end
          from letter l left join (select topic, partition, "offset", count(*) as times
               from letter_index group by all) n using (topic, partition, "offset")
         where coalesce(n.times, 0) <> 1
        union all
        select n.topic || '[' || n.partition || ']@' || n."offset", null::uuid,
               'is in the index, but not in the topic'
          from letter_index n anti join letter l using (topic, partition, "offset")
        union all
        select l.topic || '[' || l.partition || ']@' || l."offset", l.order_id,
               'comes from ' || l.origin_topic || '[' || l.origin_partition || ']@'
               || l.origin_offset || ', where no such record is'
          from letter l where not l.deleted and not exists
               (select 1 from record r where r.topic = l.origin_topic
                   and r.partition = l.origin_partition and r."offset" = l.origin_offset
                   and r.body_hash = l.body_hash)
        """,
        at_rest=True,
        optional=True,
    ),
    Invariant(
        "D2",
        "a parked event has its dead letter, and a dead letter is not done as well",
        _BOOKS,
        "select (select count(*) from inbox where status = 3) + (select count(*) from letter)",
        """
        select i.consumer || ' ' || i.event_id::varchar, null::uuid,
               'is PARKED in the inbox without a dead letter'
          from inbox i where i.status = 3 and not exists (select 1 from letter l
               where l.retry_role = i.consumer and (l.event_id = i.event_id
                  or (l.origin_topic = i.topic and l.origin_partition = i.partition
                      and l.origin_offset = i."offset")))
        union all
        select l.topic || '[' || l.partition || ']@' || l."offset", l.order_id,
               l.retry_role || ' dead-lettered it and did it all the same'
          from letter l join inbox i on i.consumer = l.retry_role and i.event_id = l.event_id
         where i.status = 0 and not exists (select 1 from record r where r.topic = l.origin_topic
               and r.event_id = l.event_id and r.at_s > l.at_s)
           and not exists (select 1 from record o join record r using (topic, event_id)
                where o.topic = l.origin_topic and o.partition = l.origin_partition
                  and o."offset" = l.origin_offset and not o.readable and r.readable)
        """,
        optional=True,
    ),
)
