"""Reading all sources; one that cannot be read is named, and the others are still judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from chaos.reconcile.database import orders_exist, read_snapshot
from chaos.reconcile.evidence import Evidence, Request
from chaos.reconcile.ledgers import UnreadableError, read_gateway, read_requests
from chaos.reconcile.topics import TopicReader, read_topics

Facts = TypeVar("Facts")

READS_MAX = 3


class Sources(NamedTuple):
    """Where the books are. Without load ledgers nothing is known of what was accepted."""

    dsn: str
    topics: TopicReader
    gateway_ledger: Path
    load_ledgers: Sequence[Path]


def read(sources: Sources) -> Evidence:
    """Return all evidence. The ledgers of requests are read first and the topics last, so that
    nothing can be missing merely because it was written between two readings.

    An order that the API was still making would look like an event without an order: when
    PostgreSQL knows it by now, everything is read again, at most READS_MAX times.
    """
    for _ in range(READS_MAX - 1):
        evidence = _read(sources)
        if not _made_meanwhile(sources, evidence):
            return evidence
    return _read(sources)


def _made_meanwhile(sources: Sources, evidence: Evidence) -> bool:
    """Whether the topics name an order that came after the snapshot of PostgreSQL."""
    snapshot, topics = evidence.snapshot, evidence.topics
    if snapshot is None or topics is None:
        return False
    strangers = topics.created.keys() - snapshot.orders.keys()
    try:
        return bool(strangers) and orders_exist(sources.dsn, strangers)
    except UnreadableError:
        return False


def _read(sources: Sources) -> Evidence:
    unread: dict[str, str] = {}
    requests = _attempt(unread, "requests", lambda: _requests(sources.load_ledgers))
    snapshot = _attempt(unread, "postgres", lambda: read_snapshot(sources.dsn))
    gateway = _attempt(unread, "gateway", lambda: read_gateway(sources.gateway_ledger))
    topics = _attempt(unread, "topics", lambda: read_topics(sources.topics))
    return Evidence(requests, snapshot, topics, gateway, unread)


def _requests(paths: Sequence[Path]) -> list[Request]:
    if not paths:
        raise UnreadableError("there is no load ledger: send orders by `symphony load`")
    return read_requests(paths)


def _attempt(unread: dict[str, str], name: str, reader: Callable[[], Facts]) -> Facts | None:
    try:
        return reader()
    except UnreadableError as error:
        unread[name] = str(error)
        return None
