"""Which database errors are nobody's fault: the one table of SQLSTATE meanings.

Guarantees: deadlocks and timeouts are TransientDatabase, a missed guard is its subclass
RowsMissed, a server that is away is DatabaseOutage; everything else is the statement's own and is
left as psycopg2 raised it.
"""

from __future__ import annotations

import psycopg2

from app.errors import DatabaseOutage, RowsMissed, TransientDatabase

# Appendix A of the PostgreSQL manual.
_TRANSIENT = frozenset(
    {
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "40003",  # statement_completion_unknown
        "55P03",  # lock_not_available: lock_timeout
        "57014",  # query_canceled: statement_timeout
        "25P03",  # idle_in_transaction_session_timeout
        "25P04",  # transaction_timeout
    }
)
ROWS_MISSED = "SY001"
"""What ops.expect_rows() raises; class SY is ours (SQL leaves I to Z to implementations)."""

_OUTAGE = frozenset(
    {
        "25006",  # read_only_sql_transaction: we reached a standby
        "57P01",  # admin_shutdown
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now
        "57P04",  # database_dropped
        "57P05",  # idle_session_timeout
    }
)
# The connection failed, the server lacks disk, memory or slots, or its system calls fail.
_OUTAGE_CLASSES = frozenset({"08", "53", "58"})


def classify(exc: BaseException) -> type[TransientDatabase] | type[DatabaseOutage] | None:
    """Return the error class `exc` stands for, or None when it is the statement's own fault."""
    if isinstance(exc, TransientDatabase):
        return type(exc)
    if isinstance(exc, (DatabaseOutage, TimeoutError)):
        return DatabaseOutage
    if not isinstance(exc, psycopg2.Error):
        return None
    state: str | None = exc.pgcode
    if state is None:
        lost = isinstance(exc, (psycopg2.OperationalError, psycopg2.InterfaceError))
        # libpq reports a broken connection to an asynchronous caller as a bare DatabaseError.
        return DatabaseOutage if lost or type(exc) is psycopg2.DatabaseError else None
    if state == ROWS_MISSED:
        return RowsMissed
    if state in _TRANSIENT:
        return TransientDatabase
    if state in _OUTAGE or state[:2] in _OUTAGE_CLASSES:
        return DatabaseOutage
    return None
