"""From evidence to verdict: which checks there are and what each one needs. Pure."""

from __future__ import annotations

from chaos.reconcile import events, goods, money, orders
from chaos.reconcile.evidence import Evidence
from chaos.reconcile.verdict import Check, Verdict, unknown

LETTERS_MAX = 32


def judge(evidence: Evidence) -> Verdict:
    """Return the verdict over `evidence`; checks whose source is missing are unknown."""
    snapshot = evidence.snapshot
    if snapshot is None:
        reason = evidence.unread.get("postgres", "PostgreSQL was not read")
        check = unknown("postgres", "PostgreSQL can be read", reason)
        return Verdict([check], 0, {})
    checks = [
        *_of_requests(evidence),
        orders.all_ended(snapshot),
        orders.one_history(snapshot),
        *_of_money(evidence),
        goods.stock_conserved(snapshot),
        goods.reservations_right(snapshot),
        goods.shipped_once(snapshot),
        events.outbox_empty(snapshot),
        *_of_topics(evidence),
    ]
    return Verdict(checks, len(snapshot.orders), _facts(evidence))


def _of_requests(evidence: Evidence) -> list[Check]:
    snapshot, requests = evidence.snapshot, evidence.requests
    assert snapshot is not None
    if requests is None:
        reason = evidence.unread.get("requests", "no load ledger")
        return [unknown("accepted", "accepted orders are in PostgreSQL, each once", reason)]
    return [
        orders.accepted_once(requests, snapshot),
        orders.refused_left_nothing(requests, snapshot),
        orders.ended_as_expected(requests, snapshot),
    ]


def _of_money(evidence: Evidence) -> list[Check]:
    snapshot = evidence.snapshot
    assert snapshot is not None
    if evidence.gateway is None:
        reason = evidence.unread.get("gateway", "no gateway ledger")
        return [unknown("charge", "completed orders: one charge, the right amount", reason)]
    moved = money.by_order(evidence.gateway)
    return [
        money.charged_once(snapshot, moved),
        money.nothing_kept(snapshot, moved),
        money.records_agree(snapshot, moved),
        money.sums_agree(snapshot, moved),
    ]


def _of_topics(evidence: Evidence) -> list[Check]:
    snapshot, topics = evidence.snapshot, evidence.topics
    assert snapshot is not None
    if topics is None:
        reason = evidence.unread.get("topics", "no topics")
        return [unknown("created", "every creation is in the topic, no other is", reason)]
    return [
        events.creations_published(snapshot, topics),
        events.statuses_published(snapshot, topics),
        events.records_sound(topics),
    ]


def _facts(evidence: Evidence) -> dict[str, object]:
    facts: dict[str, object] = {}
    if evidence.snapshot is not None and evidence.requests is not None:
        table = orders.outcomes(evidence.requests, evidence.snapshot)
        facts["outcomes"] = [
            {"class": name, "end": end, "orders": count} for (name, end), count in table.items()
        ]
    if evidence.topics is not None:
        letters = evidence.topics.letters
        facts["dead_letters"] = len(letters)
        facts["dead_letter_list"] = [one._asdict() for one in letters[:LETTERS_MAX]]
        facts["records"] = sum(evidence.topics.records.values())
        facts["repeated"] = evidence.topics.repeated
    if evidence.gateway is not None:
        facts["gateway_attempts"] = len(evidence.gateway)
        facts["gateway_replayed"] = sum(line.outcome == "replayed" for line in evidence.gateway)
    return facts
