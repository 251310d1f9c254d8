"""S and H: stock units, what orders hold of them, and shipments."""

from __future__ import annotations

from chaos.auditor.invariants.invariant import Book, Invariant

INVARIANTS = (
    Invariant(
        "S1",
        "per SKU: put in - consumed - held = available, and reservations sum to it",
        (Book.POSTGRES,),
        "select count(*) from stock",
        """
        with lines as (
            select l.sku, sum(l.quantity) filter (r.status = 'HELD') as held,
                   sum(l.quantity) filter (r.status = 'COMMITTED') as consumed
              from reservation_line l join reservation r using (order_id) group by l.sku)
        select coalesce(s.sku, l.sku), null::uuid, case
               when s.sku is null then 'reserved, but there is no such stock'
               when s.available <> s.restocked - s.consumed - s.held
               then s.restocked || ' put in - ' || s.consumed || ' consumed - ' || s.held
                    || ' held is not the ' || s.available || ' available'
               else s.held || ' held and ' || s.consumed || ' consumed, reservations say '
                    || coalesce(l.held, 0) || ' and ' || coalesce(l.consumed, 0) end
          from stock s full join lines l on l.sku = s.sku
         where s.sku is null or s.available <> s.restocked - s.consumed - s.held
            or s.held <> coalesce(l.held, 0) or s.consumed <> coalesce(l.consumed, 0)
        """,
    ),
    Invariant(
        "S2",
        "no number of stock is negative, no unit is sold twice",
        (Book.POSTGRES,),
        "select count(*) from stock",
        """
        select sku, null::uuid, available || ' available, ' || held || ' held, ' || consumed
               || ' consumed of ' || restocked
          from stock where least(available, held, consumed) < 0 or consumed > restocked
        """,
    ),
    Invariant(
        "S3",
        "a completed order consumed what it bought; any other ended order holds nothing",
        (Book.POSTGRES,),
        "select count(*) from order_state where final and settled",
        """
        select o.order_id::varchar, o.order_id, o.status || ', but its stock is '
               || coalesce(r.status, 'not reserved')
          from order_state o left join reservation r using (order_id)
         where o.final and o.settled and case
               when o.status = 'COMPLETED' then coalesce(r.status, '') <> 'COMMITTED'
               else coalesce(r.status, '') in ('HELD', 'COMMITTED') end
           and not (r.status = 'HELD' and exists (select 1 from waiver w
               where w.order_id = o.order_id
                 and w.what = case o.status when 'COMPLETED' then 'commit' else 'release' end))
        """,
    ),
    Invariant(
        "S4",
        "an order reserves each of its lines once, in the quantity bought",
        (Book.POSTGRES,),
        "select count(*) from reservation_line",
        """
        with bought as (select order_id, sku, sum(quantity) as quantity from item
                         where tracked group by order_id, sku),
        taken as (select l.order_id, l.sku, sum(l.quantity) as quantity, count(*) as times
                    from reservation_line l group by l.order_id, l.sku)
        select t.order_id::varchar, t.order_id, t.sku || ': bought ' || coalesce(b.quantity, 0)
               || ', reserved ' || t.quantity || case when t.times > 1
               then ' in ' || t.times || ' reservations' else '' end
          from taken t left join bought b using (order_id, sku)
         where t.times > 1 or t.quantity <> coalesce(b.quantity, 0)
        union all
        select r.order_id::varchar, r.order_id, r.status || ' without its line of ' || b.sku
          from reservation r join bought b using (order_id) anti join taken t using (order_id, sku)
         where r.status in ('HELD', 'COMMITTED')
        """,
        optional=True,
    ),
    Invariant(
        "H1",
        "one shipment per completed order, none for another ended one",
        (Book.POSTGRES,),
        "select count(*) from order_state where final and settled",
        """
        select o.order_id::varchar, o.order_id, o.status || ' with '
               || count(*) filter (s.status = 'SHIPPED') || ' shipments'
          from order_state o left join shipment s using (order_id)
         where o.final and o.settled group by o.order_id, o.status
        having count(*) filter (s.status = 'SHIPPED') <> (o.status = 'COMPLETED')::integer
           and not (o.status <> 'COMPLETED' and count(*) filter (s.status = 'SHIPPED') = 1
                and o.order_id in (select order_id from waiver where what = 'cancel'))
        union all
        select order_id::varchar, order_id, 'a shipment without an order'
          from shipment anti join orders using (order_id) where status = 'SHIPPED'
        """,
    ),
    Invariant(
        "H2",
        "a shipment's cause chain holds the charge and the reservation",
        (Book.POSTGRES, Book.TOPICS),
        "select count(*) from shipment where status = 'SHIPPED'",
        # A command that was damaged on its way was given all the same, and the one that is sent
        # again is caused by a timer: commands are looked for among all records.
        """
        with chain as (
            select asked.order_id, bool_or(held.order_id is not null) as held,
                   bool_or(paid.order_id is not null) as paid
              from record asked
              left join fact held on held.event_id = try_cast(asked.causation as uuid)
               and held.topic = 'inventory.result' and held.operation = 'reserve'
               and held.outcome = 'OK'
              left join record wanted on wanted.event_id = try_cast(held.causation as uuid)
               and wanted.topic = 'inventory.requested'
              left join fact paid on paid.event_id = try_cast(wanted.causation as uuid)
               and paid.topic = 'payment.result' and paid.operation = 'charge'
               and paid.outcome = 'OK'
             where asked.topic = 'shipping.requested' group by asked.order_id)
        select s.order_id::varchar, s.order_id, 'shipped, but ' || case
               when c.order_id is null then 'shipping was never asked'
               when not c.held then 'no held stock caused it' else 'no charge caused it' end
          from shipment s left join chain c using (order_id)
         where s.status = 'SHIPPED' and (c.order_id is null or not c.held or not c.paid)
        """,
        at_rest=True,
    ),
)
