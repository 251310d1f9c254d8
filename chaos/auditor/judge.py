"""From facts to findings: run every invariant's two queries over the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from time import monotonic

from chaos.auditor import timeline
from chaos.auditor.invariants import CATALOGUE, Book, Invariant
from chaos.auditor.store import Store
from chaos.auditor.verdict import Finding, Moment, State, Verdict, Witness

WITNESSES_MAX = 32
"""Witnesses of one invariant; each brings its order's timeline along."""
SLOW_S = 2.0
NOT_AT_REST = "can only be judged at rest"


def judge(
    store: Store,
    *,
    unread: Mapping[Book, str],
    unrest: str,
    facts: Mapping[str, object],
    progress: Callable[[str], None],
    catalogue: Iterable[Invariant] = CATALOGUE,
) -> Verdict:
    """Return the verdict over all books; an invariant whose book is missing is unknown."""
    findings = []
    for invariant in catalogue:
        began_s = monotonic()
        finding = _find(store, invariant, unread, unrest)
        findings.append(finding)
        if monotonic() - began_s > SLOW_S:
            progress(f"{invariant.id} judged over {finding.examined:,}")
        if finding.state is State.VIOLATED:
            progress(f"{invariant.id} is violated {finding.violations:,} times: {invariant.title}")
    of_order = cache(lambda order_id: timeline.of_order(store, order_id))
    return Verdict(
        [_with_timelines(one, of_order) for one in findings],
        unrest,
        {book.value: why for book, why in unread.items()},
        facts,
    )


def _find(store: Store, invariant: Invariant, unread: Mapping[Book, str], unrest: str) -> Finding:
    missing = [unread[book] for book in invariant.needs if book in unread]
    if missing:
        return Finding(invariant, missing="; ".join(missing))
    if invariant.at_rest and unrest:
        return Finding(invariant, missing=f"{NOT_AT_REST} ({unrest})")
    rows = store.rows(
        "select item, coalesce(order_id::varchar, ''), wrong"
        f" from ({invariant.violations}) found(item, order_id, wrong)"
        f" order by item limit {WITNESSES_MAX}"
    )
    count = len(rows)
    if count == WITNESSES_MAX:
        count = store.number(f"select count(*) from ({invariant.violations}) found")
    return Finding(
        invariant,
        store.number(invariant.examined),
        count,
        tuple(Witness(*row) for row in rows),
    )


def _with_timelines(finding: Finding, of_order: Callable[[str], tuple[Moment, ...]]) -> Finding:
    witnesses = [
        one._replace(timeline=of_order(one.order_id)) if one.order_id else one
        for one in finding.witnesses
    ]
    return replace(finding, witnesses=tuple(witnesses))
