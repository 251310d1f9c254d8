"""A call to a third party that raises what nobody foresaw is that event's failure alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg2
import pytest
from aiokafka.structs import ConsumerRecord

from app.delivery import Applied, Event
from app.delivery.calls import CallingEffects
from app.delivery.decoding import to_event
from app.delivery.events import Reply, Retry
from app.errors import SymphonyError
from app.messages import decode
from app.messages.deadletter import read_failure
from app.topics import RETRY_TIERS
from tests.integration.api_client import query
from tests.integration.participants import opened
from tests.integration.test_dlq import command
from tests.integration.test_guess import Calling, effects

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from app.db.engine import Transaction

pytestmark = [pytest.mark.integration, pytest.mark.asyncio]
INBOX = "select status from ops.inbox order by status"


def _read(record: ConsumerRecord) -> Event:
    return to_event(record, decode(record.topic, record.headers, record.key, record.value))


class Odd(Calling):
    """An adapter that raises `error` for one of its requests."""

    def __init__(self, error: Exception, odd: str) -> None:
        super().__init__()
        self.error, self.odd = error, odd

    async def call(self, request: str) -> str:
        if request == self.odd:
            raise self.error
        return request

    async def complete(
        self, tx: Transaction, replies: Sequence[Reply], now: datetime
    ) -> list[Applied | Retry]:  # type: ignore[override]
        return [
            Retry(one.result) if isinstance(one.result, SymphonyError) else Applied()
            for one in replies
        ]


@pytest.mark.parametrize("kind", [ValueError, TimeoutError, psycopg2.DataError])
async def test_an_unforeseen_error_of_a_call_climbs_the_tiers(
    database: str, kind: type[Exception]
) -> None:
    """Its outcome is unknown, so the same id is tried again; its neighbours are done."""
    commands = [_read(command()) for _ in range(3)]
    async with opened(database) as db:
        core = effects(CallingEffects, db, Odd(kind("odd"), commands[1].event_id))
        finished = await core.apply(commands)
    assert {one.event_id: one.done for one in finished} == {
        one.event_id: one is not commands[1] for one in commands
    }
    ((record,),) = [one.outputs for one in finished if not one.done]
    assert (record.topic, record.key) == (RETRY_TIERS[1].name, commands[1].key)
    failure = read_failure(record.headers)
    assert (failure.error_class, failure.error_message.count("odd")) == ("indefinite", 1)
    assert query(database, INBOX) == [(0,), (0,), (2,)]
