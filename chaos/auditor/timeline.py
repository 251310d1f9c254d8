"""Everything all books know of one order, in the order of time: what a witness brings along."""

from __future__ import annotations

from chaos.auditor.store import Store
from chaos.auditor.verdict import Moment

MOMENTS_MAX = 200

_OF_ORDER = """
with events as (select distinct event_id from record where order_id = $order)
select sent_s, 'client', kind || ' sent (' || op || ')' from request where order_id = $order
union all
select returned_s, 'client', kind || ': ' || outcome || ' ' || status || ' ' || detail
  from request where order_id = $order
union all
select created_s, 'orders', 'order of ' || total_minor || ' ' || currency
  from orders where order_id = $order
union all
select at_s, 'history', 'v' || version || ' ' || case when event = '' then 'api' else event end
       || ' -> ' || status || case when reason = '' then '' else ' (' || reason || ')' end
  from history where order_id = $order
union all
select at_s, 'audit log', action || ' by ' || actor
       || case when reason = '' then '' else ': ' || reason end
  from act where target = $order
union all
select updated_s, 'saga', 'is ' || state || ' v' || version
       || case when terminal then ', settled' else ', something outstanding' end
  from saga where order_id = $order
union all
select updated_s, 'payments', status || ' v' || version || ' ' || amount_minor || ' ' || currency
  from attempt where order_id = $order
union all
select updated_s, 'inventory', status || ' v' || version from reservation where order_id = $order
union all
select updated_s, 'shipping', status || ' v' || version from shipment where order_id = $order
union all
select at_s, 'gateway', op || ' ' || amount_minor || ' ' || currency || ' -> ' || outcome
       || case when replied then '' else ', no reply' end || ' (key ' || key || ')'
  from gateway where order_id = $order
union all
select at_s, 'topics', topic || '[' || partition || ']@' || "offset" || ' '
       || coalesce(event_id::varchar, 'no id') || ' ' || concat_ws(' ', status, operation, outcome,
       reason) || case when error = '' then '' else ' ' || error end
  from record where order_id = $order
union all
select i.at_s, 'inbox', i.consumer || ' ' || i.event_id || ' '
       || list_extract(['DONE', 'INTENT', 'RETRYING', 'PARKED', 'TICKED'], i.status + 1)
  from inbox i join events using (event_id)
union all
select at_s, 'told', kind from notice where order_id = $order
union all
select null, 'outbox', topic || ' still waits' from outbox where order_id = $order::varchar
"""
_FAULTS = """
select at_s, 'nemesis', fault || ' on ' || target || ' ' || phase || ' ' || detail
  from action where at_s between $first - 30 and $last + 5
"""


def of_order(store: Store, order_id: str) -> tuple[Moment, ...]:
    """The last MOMENTS_MAX moments of one order, with the faults that were under way meanwhile.

    The first one says how many earlier ones are left out.
    """
    moments = [Moment(*row) for row in store.rows(_OF_ORDER, {"order": order_id})]
    moments = [one._replace(at_s=one.at_s or 0.0) for one in moments]
    times = [one.at_s for one in moments if one.at_s]
    if times:
        span = {"first": min(times), "last": max(times)}
        moments += [Moment(*row) for row in store.rows(_FAULTS, span)]
    moments.sort(key=lambda one: one.at_s)
    cut = len(moments) - MOMENTS_MAX
    if cut > 0:
        left_out = Moment(moments[cut].at_s, "auditor", f"{cut:,} earlier moments are left out")
        moments = [left_out, *moments[cut:]]
    return tuple(moments)
