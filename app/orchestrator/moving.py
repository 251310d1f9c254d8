"""Sagas moved under the guard of their versions, decided again where a working copy was stale.

A working copy may be older than PostgreSQL's record. So what changes a saga is written only where
its version is the one that was decided on, and what changes nothing is believed only of
PostgreSQL's own record.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from app.db import sagas as rows
from app.db.sagas import HistoryEntry, SagaWrite
from app.domain.batch import Move, decide_in_order
from app.domain.decision import SagaEvent
from app.domain.definition import Policy
from app.domain.record import Saga, from_bytes, to_bytes
from app.errors import TransientDatabase
from app.failpoints import failpoint
from app.observability import metrics

if TYPE_CHECKING:
    from app.db.engine import Transaction

RELOADS_MAX = 3
"""Guarded updates of one batch that may miss before the whole batch is repeated."""


class Moved(NamedTuple):
    """A move and the bytes of its record, None while nothing is recorded."""

    move: Move
    body: bytes | None


async def move_sagas(
    tx: Transaction,
    by_order: Mapping[str, Sequence[SagaEvent]],
    known: dict[str, Saga | None],
    partitions: Mapping[str, int],
    now: datetime,
    *,
    policy: Policy,
) -> dict[str, Moved]:
    """Decide each order's events in order and write what changed, all orders at once, until every
    version was as expected.

    `known` has each order's working copy, None for none; what is read from PostgreSQL takes its
    place there. Raises TransientDatabase when other writers were faster RELOADS_MAX times: repeat
    the batch.
    """
    done: dict[str, Moved] = {}
    authority: set[str] = set()
    for _ in range(RELOADS_MAX):
        moves = {one: _decide(known[one], by_order[one], now, policy) for one in known}
        doubtful = [one for one in moves if moves[one].doubtful and one not in authority]
        if doubtful:
            known.update(await _load(tx, doubtful))
            authority.update(doubtful)
            moves.update({one: _decide(known[one], by_order[one], now, policy) for one in doubtful})
        moved = {one: Moved(move, _packed(move.saga)) for one, move in moves.items()}
        writes = [_write(m, partitions[one]) for one, m in moved.items() if m.move.changed]
        await failpoint("orchestrator.before_write")
        hit = await rows.write(tx, writes, now)
        missed = [one.order_id for one in writes if one.order_id not in hit]
        done.update({one: m for one, m in moved.items() if one not in missed})
        if not missed:
            return done
        metrics.SAGA_STALE_TABLE.child().inc(len(missed))
        known = await _load(tx, missed)
        authority.update(missed)
    raise TransientDatabase("sagas of this batch kept changing under it")


def _decide(saga: Saga | None, events: Sequence[SagaEvent], now: datetime, policy: Policy) -> Move:
    jitters = [random.random() for _ in events]
    return decide_in_order(saga, events, now, policy=policy, jitters=jitters)


async def _load(tx: Transaction, order_ids: Sequence[str]) -> dict[str, Saga | None]:
    await failpoint("orchestrator.before_reload")
    stored = await rows.load(tx, order_ids)
    return {one: from_bytes(stored[one].body) if one in stored else None for one in order_ids}


def _packed(saga: Saga | None) -> bytes | None:
    return None if saga is None else to_bytes(saga)


def _write(moved: Moved, partition: int) -> SagaWrite:
    move, body = moved
    saga = move.saga
    assert saga is not None, "only changed moves are written"
    assert body is not None
    return SagaWrite(
        order_id=saga.order_id,
        partition=partition,
        expected=move.expected,
        version=saga.version,
        state=saga.state,
        reason=saga.reason,
        terminal=saga.settled,
        body=body,
        next_due=saga.due,
        history=[
            HistoryEntry(line.event, line.target, line.reason, line.cause_id, line.at)
            for line in move.transitions
        ],
    )
