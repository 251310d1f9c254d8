"""Which dead letters an operator means, and what is there: asked before a job is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from app.db.deadletters import COLUMNS, DeadLetter, from_row
from app.db.statements import statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.db.engine import Transaction


@dataclass(frozen=True)
class Selection:
    """Which letters are meant: all that fit everything that is given.

    Offsets are those of the dead-letter topic, both inclusive, over all partitions when
    `partition` is None.
    """

    ids: tuple[str, ...] | None = None
    topic: str = ""
    partition: int | None = None
    from_offset: int | None = None
    to_offset: int | None = None
    fingerprint: str = ""

    def params(self) -> dict[str, Any]:
        """Return the parameters of SELECTED."""
        return {
            "by_id": self.ids is not None,
            "ids": list(self.ids or ()),
            "topic": self.topic,
            "partition": -1 if self.partition is None else self.partition,
            "from_offset": 0 if self.from_offset is None else self.from_offset,
            "to_offset": -1 if self.to_offset is None else self.to_offset,
            "fingerprint": self.fingerprint,
        }


# Parameters become literals, so what is not asked for is folded away and needs no look at the row.
SELECTED: Final = """
        (:topic = '' or topic = :topic)
    and (not :by_id or id = any(:ids::uuid[]))
    and (:fingerprint = '' or fingerprint = :fingerprint)
    and (:partition < 0 or partition = :partition)
    and (:from_offset = 0 or "offset" >= :from_offset)
    and (:to_offset < 0 or "offset" <= :to_offset)
"""
"""Condition on ops.dead_letter: the letters that a selection means."""
_MATCHING = statement(
    f"select status, count(*) from ops.dead_letter where {SELECTED} group by status"
)
_OF_IDS = statement("select id, topic, status from ops.dead_letter where id = any(:ids::uuid[])")
_SPAN = statement(
    'select partition, min("offset"), max("offset") from ops.dead_letter where topic = :topic'
    " group by partition order by partition"
)
_OPEN = statement(
    f"""
    select {COLUMNS} from ops.dead_letter
     where {SELECTED} and status = 'OPEN'
     order by topic, partition, "offset" limit :limit
    """
)
_PROTECTED = statement(
    """
    select count(*) from ops.dead_letter d
      join orders.saga s on s.order_id = case
           when encode(d.key, 'escape') ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
           then encode(d.key, 'escape')::uuid end
     where d.topic = :topic and d.status = 'OPEN' and not s.terminal
       and d."offset" < (:ends::jsonb ->> d.partition::text)::bigint
    """
)


async def matching(tx: Transaction, selection: Selection) -> dict[str, int]:
    """Return how many letters a selection means, by status; empty when it means none."""
    return dict(await tx.fetch(_MATCHING, **selection.params()))


async def of_ids(tx: Transaction, letter_ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return topic and status of the letters that exist, by id."""
    rows = await tx.fetch(_OF_IDS, ids=list(letter_ids))
    return {row[0]: (row[1], row[2]) for row in rows}


async def span(tx: Transaction, topic: str) -> dict[int, tuple[int, int]]:
    """Return the first and last indexed offset of each partition of a dead-letter topic."""
    return {row[0]: (row[1], row[2]) for row in await tx.fetch(_SPAN, topic=topic)}


async def open_letters(tx: Transaction, selection: Selection, limit: int) -> list[DeadLetter]:
    """Return the first `limit` open letters of a selection, in the order jobs walk."""
    rows = await tx.fetch(_OPEN, **selection.params(), limit=limit)
    return [from_row(row) for row in rows]


async def protected(tx: Transaction, topic: str, ends: dict[int, int]) -> int:
    """Return how many open letters below `ends` belong to an order whose saga has not ended."""
    return int((await tx.fetch(_PROTECTED, topic=topic, ends=_ends(ends)))[0][0])


def _ends(ends: dict[int, int]) -> str:
    return json.dumps({str(partition): end for partition, end in ends.items()})
