"""One audit from rest to verdict: wait, read every book in the right order, judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from chaos.auditor import ledgers, platform, records, views
from chaos.auditor.invariants import Book
from chaos.auditor.judge import judge
from chaos.auditor.records import Topics
from chaos.auditor.rest import Still, still, wait_for_rest
from chaos.auditor.snapshot import ever_ran, read_snapshot
from chaos.auditor.sources import Sources, UnreadableError
from chaos.auditor.store import Store
from chaos.auditor.verdict import Verdict

LETTERS_SHOWN = 32
READS_MAX = 3


class Options(NamedTuple):
    """How to audit: seconds to wait for rest, whether to write barriers, memory of the store."""

    deadline_s: float = 120.0
    barriers: bool = True
    memory_mb: int = 1024
    work_dir: Path | None = None


def audit(
    sources: Sources, options: Options, progress: Callable[[str], None] = lambda _: None
) -> Verdict:
    """Return the verdict; a book that cannot be read makes its invariants unknown.

    Requests are read first and topics last, ends of topics and committed offsets before the
    snapshot: nothing can be missing, or look invented, merely because it was written in between.
    What is parked may still move by itself (a compensation is driven again and again): books that
    did so while they were read are read anew, READS_MAX times in all.
    """
    rest_s, topics = 0.0, Topics(sources.bootstrap)
    for reading in range(1, READS_MAX + 1):
        began_s = monotonic()
        unrest = wait_for_rest(
            sources,
            topics,
            deadline_s=options.deadline_s,
            barriers=options.barriers,
            progress=progress,
        )
        rest_s += monotonic() - began_s
        if unrest:
            progress(f"not at rest after {options.deadline_s:g} s ({unrest}): judged as it stands")
        with Store(options.work_dir, memory_mb=options.memory_mb) as store:
            before = None if unrest else _still(sources, topics)
            unread = read_books(sources, topics, store, progress)
            if before is not None and _still(sources, topics) != before:
                unrest = "something moved while the books were read"
                if reading < READS_MAX:
                    progress(f"{unrest}: reading them again")
                    continue
            known = {**facts(store), "rest_s": round(rest_s, 2)}
            return judge(store, unread=unread, unrest=unrest, facts=known, progress=progress)
    raise AssertionError("the last reading is judged")


def _still(sources: Sources, topics: Topics) -> Still | None:
    """What may not change while the books are read; None when it cannot be told."""
    try:
        return still(sources, topics)
    except UnreadableError:
        return None


def read_books(
    sources: Sources, topics: Topics, store: Store, progress: Callable[[str], None]
) -> Mapping[Book, str]:
    """Fill the store; returns what could not be read and why."""
    unread: dict[Book, str] = {}

    def attempt(book: Book, read: Callable[[], Any]) -> None:
        if book in unread:
            return
        try:
            read()
        except UnreadableError as error:
            unread[book] = str(error)

    attempt(Book.LOAD, lambda: _read_requests(sources, store))
    attempt(Book.NEMESIS, lambda: _read_actions(sources, store))
    attempt(Book.TOPICS, lambda: _read_losses(sources, store))
    counted = False
    try:
        counted = ever_ran(sources.dsn, platform.COUNTER)
    except UnreadableError as error:
        unread[Book.POSTGRES] = str(error)
    consumers = platform.consumers(notified=sources.notified, counted=counted)
    attempt(
        Book.TOPICS, lambda: records.read_offsets(topics, sources.namespace, store, [*consumers])
    )
    began_s = monotonic()
    attempt(Book.POSTGRES, lambda: read_snapshot(sources.dsn, store, progress))
    attempt(Book.GATEWAY, lambda: _read_gateway(sources, store))
    attempt(Book.NOTICES, lambda: _read_notices(sources, store))
    attempt(Book.TOPICS, lambda: records.read_records(topics, store, progress))
    attempt(Book.TOPICS, lambda: records.read_changelogs(topics, sources.namespace, store))
    # panes go by and by, and have gone from a changelog that was read long after the snapshot
    store.execute(f"update instant set at_s = at_s + {monotonic() - began_s}")
    views.prepare(store, consumers)
    return unread


def _read_requests(sources: Sources, store: Store) -> None:
    if not sources.load_ledgers:
        raise UnreadableError("there is no load ledger: send orders by `symphony load`")
    ledgers.read_requests(sources.load_ledgers, store)


def _read_gateway(sources: Sources, store: Store) -> None:
    if sources.gateway_ledger is None:
        raise UnreadableError("there is no ledger of the payment gateway")
    ledgers.read_gateway(sources.gateway_ledger, store)


def _read_notices(sources: Sources, store: Store) -> None:
    """A platform without such a sink has told nobody anything that could be judged."""
    if sources.notifications is not None:
        ledgers.read_notices(sources.notifications, store)


def _read_actions(sources: Sources, store: Store) -> None:
    """A lab in which nothing was broken has no ledger of faults."""
    if sources.nemesis_ledger is not None and sources.nemesis_ledger.exists():
        ledgers.read_actions(sources.nemesis_ledger, store)


def _read_losses(sources: Sources, store: Store) -> None:
    """Read before the topics: a loss is written down before it happens."""
    if sources.losses is not None and sources.losses.is_dir():
        ledgers.read_losses(sources.losses, store)


def facts(store: Store) -> dict[str, Any]:
    """What is worth showing beside the verdict."""
    letters = store.rows(
        'select topic, partition, "offset", key, origin_topic, retry_role, error from letter'
        f" where not deleted order by at_s limit {LETTERS_SHOWN}"
    )
    names = ("topic", "partition", "offset", "key", "origin", "consumer", "error")
    return {
        "orders": store.number("select count(*) from orders"),
        "records": store.number("select count(*) from record"),
        "repeated": store.number("select count(*) - count(distinct (topic, event_id)) from fact"),
        "gateway_attempts": store.number("select count(*) from gateway"),
        "gateway_replayed": store.number("select count(*) from gateway where outcome = 'replayed'"),
        "faults": store.number("select count(distinct action) from action where phase = 'proved'"),
        "void_faults": store.number(
            "select count(distinct action) from action where phase = 'void'"
        ),
        "unknown_answers": store.number(
            "select count(*) from request where kind = 'create' and outcome = 'unknown'"
        ),
        "timed_out": store.number("select count(*) from order_state where reason = 'timeout'"),
        "parked": store.number("select count(*) from order_state where status = 'PARKED'"),
        "waivers": _waivers(store),
        "losses": store.number("select count(*) from loss"),
        "dead_letters": store.number("select count(*) from letter where not deleted"),
        "dead_letter_list": [dict(zip(names, row, strict=True)) for row in letters],
        "outcomes": _outcomes(store),
    }


def _waivers(store: Store) -> list[dict[str, Any]]:
    """What operators gave up, and so excused: which order, which command, who, why."""
    rows = store.rows(
        f"select order_id::varchar, what, who, why from waiver order by at_s limit {LETTERS_SHOWN}"
    )
    return [dict(zip(("order", "skipped", "who", "why"), row, strict=True)) for row in rows]


def _outcomes(store: Store) -> list[dict[str, Any]]:
    rows = store.rows(
        """
        select coalesce(nullif(a.expected, ''), 'other') as class, case
               when o.order_id is null then 'lost'
               when o.reason = '' then o.status else o.status || ' (' || o.reason || ')' end
               as ended, count(*)
          from (select order_id, expected from request where kind = 'create' and outcome = 'ok'
                union select k.order_id, r.expected from request r join idempotency k using (key)
                       where r.kind = 'create' and r.outcome = 'unknown' and r.key <> '') a
          left join order_state o using (order_id) left join expected_end e on e.class = a.expected
         group by 1, 2, e.rank order by e.rank, 1, 2
        """
    )
    return [{"class": name, "end": end, "orders": count} for name, end, count in rows]
