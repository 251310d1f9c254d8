"""The census of PostgreSQL: how much of everything there is, and since when the oldest waits.

Guarantees: four statements, each over an index or a table of bounded size; counts stop at
ROWS_MAX. Reading only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from app.db.statements import statement
from app.domain.inventory import THRESHOLDS, Level

if TYPE_CHECKING:
    from app.db.engine import Database

ROWS_MAX: Final = 200_000
STUCK_S: Final = 30
STUCK: Final = f"(state <> 'PARKED' and next_due < now() - interval '{STUCK_S} s')"
"""Whether a row of orders.saga is stuck, as SQL: nobody parked it and its deadline is long over,
although the orchestrator looks every second."""
_BELOW = {level: below for below, level in THRESHOLDS}


def _fallen(level: Level, *, at_least: int = 0) -> str:
    """How many products' stock fell below a level, as SQL; one of which there never were so many
    does not count."""
    below = _BELOW[level]
    return (
        "(select count(*) from inventory.stock"
        f" where available >= {at_least} and available < {below} and restocked >= {below})"
    )


_SAGAS = statement(
    f"""
    select state, count(*), extract(epoch from now() - min(created_at))::float8,
           count(*) filter (where {STUCK})
      from (select state, created_at, next_due from orders.saga where not terminal limit :most) s
     group by state
    """
)
_LETTERS = statement(
    """
    select topic, count(*), extract(epoch from now() - min(at))::float8
      from (select topic, at from ops.dead_letter where status = 'OPEN' limit :most) d
     group by topic
    """
)
# What others do is hidden from a login that may not see it: state is NULL then.
_CONNECTIONS = statement(
    """
    select count(*) filter (where state = 'active'),
           count(*) filter (where state = 'idle'),
           count(*) filter (where state like 'idle in transaction%'),
           count(*) filter (where state is null or state in ('fastpath function call', 'disabled')),
           count(*) filter (where state is null),
           extract(epoch from max(clock_timestamp() - xact_start)
                   filter (where pid <> pg_backend_pid()))::float8,
           current_setting('max_connections')::int
      from pg_stat_activity
     where datname = current_database() and backend_type = 'client backend'
    """
)
_SIZES = statement(
    f"""
    select (select count(*) from (select from ops.outbox limit :most) o),
           (select extract(epoch from now() - created_at)::float8
              from ops.outbox order by id limit 1),
           (select count(*) from (select from ops.outbox_parked limit :most) p),
           {_fallen("critical")},
           {_fallen("low", at_least=_BELOW["critical"])},
           pg_database_size(current_database())
    """
)


class SagaBooks(NamedTuple):
    """Sagas of one state that are not over; `oldest_s` since the creation of the oldest."""

    number: int
    oldest_s: float
    stuck: int


class LetterBooks(NamedTuple):
    """Dead letters of one topic that nobody has acted on."""

    number: int
    oldest_s: float


class Books(NamedTuple):
    """One census. `oldest_transaction_s` is None when other logins' are hidden from this one;
    `outbox_oldest_s` None when the outbox is empty."""

    sagas: dict[str, SagaBooks]
    letters: dict[str, LetterBooks]
    connections: dict[str, int]
    oldest_transaction_s: float | None
    outbox_rows: int
    outbox_oldest_s: float | None
    outbox_parked: int
    stock_critical: int
    stock_low: int
    database_bytes: int
    connections_max: int | None = None


async def take(db: Database) -> Books:
    """Read everything once, in one transaction. Raises DatabaseOutage and TransientDatabase."""
    async with db.transaction() as tx:
        sagas = await tx.fetch(_SAGAS, most=ROWS_MAX)
        letters = await tx.fetch(_LETTERS, most=ROWS_MAX)
        active, idle, in_transaction, other, hidden, oldest_s, connections_max = (
            await tx.fetch(_CONNECTIONS)
        )[0]
        outbox, outbox_oldest_s, parked, critical, low, size = (
            await tx.fetch(_SIZES, commit=True, most=ROWS_MAX)
        )[0]
    return Books(
        sagas={state: SagaBooks(*counted) for state, *counted in sagas},
        letters={topic: LetterBooks(*counted) for topic, *counted in letters},
        connections={
            "active": active,
            "idle": idle,
            "idle_in_transaction": in_transaction,
            "other": other,
        },
        oldest_transaction_s=None if hidden else max(0.0, oldest_s or 0.0),
        outbox_rows=outbox,
        outbox_oldest_s=outbox_oldest_s,
        outbox_parked=parked,
        stock_critical=critical,
        stock_low=low,
        database_bytes=size,
        connections_max=connections_max,
    )
