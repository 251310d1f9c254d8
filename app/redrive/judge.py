"""The verdict on dead letters: the pure rule over what PostgreSQL says now; changes nothing."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from app import ids
from app.db import inbox, sagas
from app.domain import redrive as rule
from app.domain.definition import Policy
from app.domain.record import Saga, from_bytes
from app.domain.redrive import REFUSED, Verdict
from app.errors import Poison
from app.redrive import record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.db.deadletters import DeadLetter
    from app.db.engine import Transaction
    from app.db.sagas import StoredSaga
    from app.settings import Settings


class Judged(NamedTuple):
    """A letter, what sending it back would do, and the deadline that a command would get."""

    letter: DeadLetter
    verdict: Verdict
    not_after: datetime | None


def policy_of(settings: Settings) -> Policy:
    """Return the bounds by which the orchestrator drives sagas."""
    return Policy(
        step_deadline_s=settings.step_deadline_s,
        redrives_max=settings.redrives_max,
        compensation_attempts_max=settings.compensation_attempts_max,
    )


async def judge(
    tx: Transaction, letters: Sequence[DeadLetter], now: datetime, policy: Policy
) -> list[Judged]:
    """Say what redriving each letter would do, in the order given: two reads for all of them."""
    readable = [record.read(letter) for letter in letters]
    stored = await _sagas(tx, readable)
    finished = await _finished(tx, readable)
    judged = []
    for one in readable:
        known = record.facts(one, done=_event_of(one) in finished)
        order_id = _order_of(one)
        try:
            found = stored.get(order_id) if order_id is not None else None
            saga = from_bytes(found.body) if found is not None else None
        except Poison:
            judged.append(Judged(one.letter, Verdict(REFUSED, "its saga cannot be read"), None))
            continue
        verdict = rule.verdict(known, saga, now, policy=policy)
        judged.append(Judged(one.letter, verdict, _deadline(known.topic, saga, now, policy)))
    return judged


async def saga_of(tx: Transaction, order_id: str) -> Saga | None:
    """Return an order's saga, None when it has none; raises Poison when it cannot be read."""
    found = (await sagas.load(tx, [order_id])).get(order_id)
    return from_bytes(found.body) if found is not None else None


def _deadline(topic: str, saga: Saga | None, now: datetime, policy: Policy) -> datetime | None:
    """A command that is sent again may start as long as its saga waits for it from now on."""
    if saga is None or not rule.is_command(topic):
        return None
    index = saga.current()
    if index is None:
        return None
    return now + timedelta(seconds=policy.patience_s(saga.plan.steps[index], saga.tries))


async def _sagas(tx: Transaction, readable: Sequence[record.Readable]) -> dict[str, StoredSaga]:
    orders = {_order_of(one) for one in readable if one.message is not None}
    named = sorted(one for one in orders if one is not None)
    return await sagas.load(tx, named) if named else {}


async def _finished(tx: Transaction, readable: Sequence[record.Readable]) -> set[tuple[str, str]]:
    events = {_event_of(one) for one in readable if one.message is not None}
    return await inbox.finished(tx, sorted(one for one in events if ids.is_uuid(one[1])))


def _event_of(one: record.Readable) -> tuple[str, str]:
    return (one.letter.consumer, one.message.event_id if one.message is not None else "")


def _order_of(one: record.Readable) -> str | None:
    """The order in the body; a letter's key alone could be anybody's."""
    return getattr(one.message.body, "order_id", None) if one.message is not None else None
