"""From facts to findings: run every invariant's two queries over the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from chaos.auditor import timeline
from chaos.auditor.invariants import CATALOGUE, Book, Invariant
from chaos.auditor.store import Store
from chaos.auditor.verdict import Finding, Moment, State, Verdict, Witness

WITNESSES_MAX = 32
TIMELINES_MAX = 3
"""Witnesses of one invariant that bring their timeline along."""

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
        finding = _find(store, invariant, unread, unrest)
        findings.append(finding)
        if finding.state is State.VIOLATED:
            progress(f"{invariant.id} is violated {finding.violations:,} times: {invariant.title}")
    return Verdict(
        [_with_timelines(store, one) for one in findings],
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


def _with_timelines(store: Store, finding: Finding) -> Finding:
    told = 0
    witnesses: list[Witness] = []
    for one in finding.witnesses:
        moments: tuple[Moment, ...] = ()
        if one.order_id and told < TIMELINES_MAX:
            told += 1
            moments = timeline.of_order(store, one.order_id)
        witnesses.append(one._replace(timeline=moments))
    return replace(finding, witnesses=tuple(witnesses))
