"""The history of GameDays in PostgreSQL, from a process without an event loop.

A run is told about by a thread of its own, because PostgreSQL may be what is broken: nothing waits
for it but the beginning and, for a while, the end.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any
from uuid import uuid4

import psycopg2
import psycopg2.extensions

from app.db import audit_log, gamedays
from app.db.cursor import NEWEST
from app.db.gamedays import LEASE_S, RunRow, run_row
from app.db.statements import Statement
from app.observability.logging import get_log
from chaos.gameday.audit import violations
from chaos.gameday.errors import GameDayError
from chaos.gameday.verdict import Verdict

TELL_S = 1.0
CONNECT_S = 5
END_S = 60.0
APPLICATION = "gameday-book"
NEWEST_MAX = 500
NONE_YET = (
    "there was no GameDay yet: `symphony gameday run NAME`, names by `symphony gameday catalogue`"
)
log = get_log(__name__)


class Book:
    """All runs of the lab whose database this is."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def begin(
        self, experiment: str, title: str, options: Mapping[str, Any], *, by: str, owner: str
    ) -> str:
        """Open a run that begins now; its id. Raises GameDayError when another one is open.

        Whoever begins one has seen that no GameDay goes on, so a lease that is over is of no one.
        """
        run_id = str(uuid4())
        with self._transaction() as cursor:
            _fetch(cursor, gamedays.LOCK, lock=gamedays.OPEN_LOCK)
            _fetch(cursor, gamedays.EXPIRE)
            if found := _fetch(cursor, gamedays.OPEN):
                raise GameDayError(
                    f"GameDay {found[0][0]} is open: see `symphony gameday status`, end it with"
                    " `symphony gameday abort`"
                )
            _fetch(
                cursor,
                gamedays.QUEUE,
                id=run_id,
                experiment=experiment,
                title=title,
                options=json.dumps(dict(options)),
                requested_by=by,
            )
            _fetch(cursor, gamedays.START, id=run_id, owner=owner, lease_s=LEASE_S)
            detail = {"experiment": experiment, **options}
            _record(cursor, actor=by, action="gameday.start", target=run_id, detail=detail)
        return run_id

    def take_over(self, run_id: str, owner: str) -> None:
        """Go on with a run that was claimed."""
        with self._transaction() as cursor:
            _fetch(cursor, gamedays.START, id=run_id, owner=owner, lease_s=LEASE_S)

    def recent(self, limit: int) -> list[RunRow]:
        """Runs, newest first."""
        rows = self._rows(gamedays.LIST, limit=limit, before_at=NEWEST.at, before_id=NEWEST.id)
        return [run_row(row) for row in rows]

    def current(self, going_on: Callable[[], bool]) -> RunRow | None:
        """The open run; one whose owner is gone is ended first, unless a GameDay is `going_on`."""
        if self._rows(gamedays.LAPSED) and not going_on():
            self._rows(gamedays.EXPIRE)
        rows = self._rows(gamedays.CURRENT)
        return run_row(rows[0]) if rows else None

    def find(self, which: str) -> RunRow:
        """The run whose id begins with `which`; empty: the newest. Raises GameDayError."""
        found = [one for one in self.recent(NEWEST_MAX) if one.id.startswith(which.lower())]
        if not found and not which:
            raise GameDayError(NONE_YET)
        if not found:
            raise GameDayError(f"there is no GameDay {which}: see `symphony gameday ls`")
        if which and len(found) > 1:
            raise GameDayError(f"{len(found)} GameDays begin with {which}: give more of the id")
        return found[0]

    def journal(self, run_id: str) -> dict[str, Any]:
        """The journal of a run. Raises GameDayError when it has none."""
        rows = self._rows(gamedays.JOURNAL, id=run_id)
        if not rows or rows[0][0] is None:
            raise GameDayError(
                f"GameDay {run_id} has no report: it goes on, or its process ended without one;"
                " see `symphony gameday ls`"
            )
        found: dict[str, Any] = rows[0][0]
        return found

    def violated_before(self) -> dict[str, int]:
        """What the newest audited GameDay found violated, by invariant."""
        for row in self.recent(NEWEST_MAX):
            if row.status == "ENDED":
                found = self._rows(gamedays.JOURNAL, id=row.id)[0][0] or {}
                audit = found.get("x-symphony", {}).get("audit") or {}
                if "invariants" in audit:
                    return violations(audit)
        return {}

    def abort(self, run_id: str, *, by: str) -> bool:
        """Ask for its end; False when it is over."""
        with self._transaction() as cursor:
            if not _fetch(cursor, gamedays.ABORT, id=run_id):
                return False
            _record(cursor, actor=by, action="gameday.abort", target=run_id)
        return True

    def tell(self, run_id: str, phase: str, progress: Mapping[str, Any]) -> bool:
        """Keep where it is and renew its lease; whether its end is wanted."""
        rows = self._rows(
            gamedays.TELL, id=run_id, phase=phase, progress=json.dumps(progress), lease_s=LEASE_S
        )
        return bool(rows and rows[0][0])

    def lost(self, run_id: str, error: str) -> None:
        """End a run that never came to a verdict."""
        self._rows(gamedays.LOST, id=run_id, error=error)

    def end(
        self, run_id: str, verdict: str, error: str, journal: Mapping[str, Any], page: bytes
    ) -> None:
        """Keep the end of a run; a database that is away is asked for a minute."""
        deadline = time.monotonic() + END_S
        text = json.dumps(journal, default=str).replace("\\u0000", "\\ufffd")
        while True:
            try:
                self._rows(
                    gamedays.END,
                    id=run_id,
                    verdict=verdict,
                    error=error,
                    journal=text,
                    report=page,
                )
            except psycopg2.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(TELL_S)
            else:
                return

    def _rows(self, statement: Statement, **params: Any) -> list[tuple[Any, ...]]:
        with self._transaction() as cursor:
            return _fetch(cursor, statement, **params)

    @contextmanager
    def _transaction(self) -> Iterator[psycopg2.extensions.cursor]:
        with (
            closing(
                psycopg2.connect(self._dsn, connect_timeout=CONNECT_S, application_name=APPLICATION)
            ) as connection,
            connection,
            connection.cursor() as cursor,
        ):
            yield cursor


def _fetch(
    cursor: psycopg2.extensions.cursor, statement: Statement, **params: Any
) -> list[tuple[Any, ...]]:
    cursor.execute(statement.sql, statement.bind(params))
    return list(cursor.fetchall()) if cursor.description else []


def _record(cursor: psycopg2.extensions.cursor, **act: Any) -> None:
    """Put an act into the audit log, as the API does."""
    _fetch(cursor, audit_log.RECORD, **audit_log.row(**act))


class Teller:
    """Tells the book about one run: `tell` returns at once, what it says is written when it can."""

    def __init__(self, book: Book, run_id: str) -> None:
        self._book, self._run_id = book, run_id
        self._news: tuple[str, Mapping[str, Any]] = ("", {})
        self._wanted = False
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gameday-book", daemon=True)
        self._thread.start()

    def tell(self, phase: str, progress: Mapping[str, Any]) -> bool:
        """Keep where it is; whether somebody wants it aborted."""
        self._news = (phase, progress)
        return self._wanted

    def end(self, found: Verdict, journal: Mapping[str, Any], page: bytes) -> None:
        """Keep verdict, journal and report."""
        self._enough.set()
        self._book.end(self._run_id, found.word, "; ".join(found.reasons), journal, page)

    def _run(self) -> None:
        while not self._enough.wait(TELL_S):
            try:
                self._wanted = self._book.tell(self._run_id, *self._news)
            except psycopg2.Error:
                continue  # PostgreSQL may be what is broken
            except Exception as error:  # a wish to abort must be heard all the same
                log.error("gameday.not_told", run=self._run_id, error=error)


def names(rows: Sequence[RunRow]) -> list[str]:
    """Short ids, as long as they need to be told apart: eight characters at least."""
    length = 8
    while len({row.id[:length] for row in rows}) < len(rows):
        length += 4
    return [row.id[:length] for row in rows]
