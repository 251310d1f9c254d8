"""A: what the nemesis did is recorded, was looked at, and was undone.

A fault that was seen to have no effect is void: it covers nothing, but it violates nothing either.
One that could not be undone at first and was later on is undone.
"""

from __future__ import annotations

from chaos.auditor.invariants.invariant import Book, Invariant

INVARIANTS = (
    Invariant(
        "A1",
        "every fault was proved or called void, and undone",
        (Book.NEMESIS,),
        "select count(distinct action) from action where phase = 'started'",
        """
        with folded as (
            select action, any_value(fault) as fault, any_value(target) as target,
                   bool_or(phase = 'started') as started, bool_or(phase = 'proved') as proved,
                   bool_or(phase in ('ended', 'expired')) as over,
                   max(detail) filter (phase = 'not_undone') as left_on,
                   bool_or(phase = 'void') as void
              from action group by action)
        select action, null::uuid, fault || ' on ' || target || ': ' || case
               when not over then coalesce('could not be undone: ' || left_on, 'was never undone')
               else 'nobody looked whether it had an effect' end
          from folded where started and not (over and (proved or void))
        """,
        optional=True,
    ),
)
