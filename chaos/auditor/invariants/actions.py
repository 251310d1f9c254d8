"""A: what the nemesis did is recorded, had its effect, and was undone."""

from __future__ import annotations

from chaos.auditor.invariants.invariant import Book, Invariant

INVARIANTS = (
    Invariant(
        "A1",
        "every fault proved its effect and was undone",
        (Book.NEMESIS,),
        "select count(distinct action) from action where phase = 'started'",
        """
        with folded as (
            select action, any_value(fault) as fault, any_value(target) as target,
                   bool_or(phase = 'started') as started, bool_or(phase = 'proved') as proved,
                   bool_or(phase in ('ended', 'expired')) as over,
                   string_agg(detail, '; ') filter (phase = 'void') as void
              from action group by action)
        select action, null::uuid, fault || ' on ' || target || ': ' || case
               when not over then 'was never undone'
               when void is not null then 'had no effect, so the run is void: ' || void
               else 'its effect was never proved' end
          from folded where started and not (proved and over)
        """,
        optional=True,
    ),
)
