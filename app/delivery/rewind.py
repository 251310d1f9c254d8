"""Time travel of a consumer group: a role reads the last minutes of its topics once more.

Offsets of a group can only be set while it has no members. So a rewind is a restart: an operator's
request is a row in ops.rewind; every worker of the role sees it within about a second, stops in
good order and is started again; the new incarnations wait, the first of them that finds the group
empty sets its offsets by time and says so, and all join. Nothing has to be alive for it but one
worker, and a worker that dies anywhere in between leaves a row that the next one finds
(docs/adr/0013-rewind-by-restart.md).

It is harmless because every consumer is: what is read again is answered from the inbox.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, for_code

from app.db import rewinds
from app.db.rewinds import Position, Rewind
from app.delivery import aiokafka_seams as seams
from app.delivery import exits
from app.delivery.exits import Reason
from app.errors import DatabaseOutage, TransientDatabase
from app.loops import keep_on
from app.observability.logging import get_log

if TYPE_CHECKING:
    from app.delivery.app import App

log = get_log(__name__)

LOOK_S = 1.0
"""How often a working worker looks whether it is to read again."""
WAIT_S = 0.3
"""How often one that waits for an empty group looks."""
REQUEST_S = 10.0
_GROUP_ID_NOT_FOUND = 69


def positions(
    committed: Mapping[TopicPartition, int],
    at_time: Mapping[TopicPartition, int | None],
    ends: Mapping[TopicPartition, int],
) -> list[Position]:
    """Where each partition goes: to the first record of that time, to the end where there is none,
    never forward of what is committed. One without a committed offset begins at the beginning
    anyway. Pure.
    """
    listed = []
    for tp, before in sorted(committed.items()):
        found = at_time.get(tp)
        after = ends[tp] if found is None else found
        listed.append(Position(tp.topic, tp.partition, before, min(after, before)))
    return listed


class Rewinder:
    """Looks for a rewind of one worker's role, and carries it out before the worker joins."""

    def __init__(self, app: App, say: Callable[[str], None]) -> None:
        self._app, self._say = app, say
        self._group = f"{app.settings.namespace}-{app.role.name}"

    async def watch(self) -> None:
        """Until a rewind is queued: then stop this worker in good order, to be started again."""
        await keep_on("rewinds", self._stops, LOOK_S)

    async def _stops(self) -> bool:
        found = await self._queued()
        if found is None:
            return False
        log.warning("worker.rewinds", rewind_id=found.id, since=found.since)
        exits.stop_for(Reason.REWIND)
        os.kill(os.getpid(), signal.SIGTERM)
        return True

    async def before_joining(self) -> None:
        """Return once no rewind of the role is queued; carries out one that is.

        Workers may do so at the same time: they set the positions that were written down first,
        and the broker refuses as soon as one of them has joined.
        """
        waits_for, began_s = "", monotonic()
        while (found := await self._queued()) is not None:
            if waits_for != found.id:
                waits_for, began_s = found.id, monotonic()
                self._say("the rewind of its consumer group")
            why = await self._try(found)
            if why is None:
                continue
            if monotonic() - began_s > self._app.settings.rewind_timeout_s:
                log.error("worker.rewind_failed", rewind_id=found.id, reason=why)
                await self._end(found, rewinds.FAILED, why)
            await asyncio.sleep(WAIT_S)

    async def _queued(self) -> Rewind | None:
        """A database that is away asks for nothing."""
        try:
            return await rewinds.queued(self._app.db, self._app.role.name)
        except (DatabaseOutage, TransientDatabase):
            return None

    async def _try(self, found: Rewind) -> str | None:
        """Set the group's offsets; why that is not possible yet, None when it is done."""
        try:
            async with asyncio.timeout(REQUEST_S * 3):
                members = await self._members()
                if members:
                    return f"group {self._group} still has members: {', '.join(members)}"
                await self._carry_out(found)
        except (KafkaError, DatabaseOutage, TransientDatabase, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"
        return None

    async def _carry_out(self, found: Rewind) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._app.settings.broker_bootstrap,
            client_id=f"{self._app.settings.worker_id}-rewind",
            group_id=self._group,
            enable_auto_commit=False,
            request_timeout_ms=int(REQUEST_S * 1000),
        )
        await consumer.start()
        try:
            tps = [
                TopicPartition(topic, partition)
                for topic in sorted(self._app.batch_topics)
                for partition in range(self._app.settings.topic_partitions)
            ]
            consumer.assign(tps)
            planned = await rewinds.plan(
                self._app.db, found.id, await self._positions(consumer, tps, found)
            )
            if planned is None:
                return  # another worker was faster
            offsets = {TopicPartition(one.topic, one.partition): one.after for one in planned}
            if offsets:
                await consumer.commit(offsets)
        finally:
            await consumer.stop()
        await self._end(found, rewinds.DONE)
        again = sum(one.before - one.after for one in planned)
        log.warning("worker.rewound", rewind_id=found.id, since=found.since, records=again)

    async def _positions(
        self, consumer: Any, tps: list[TopicPartition], found: Rewind
    ) -> list[Position]:
        committed = await seams.committed_offsets(consumer, tps)
        since_ms = int(found.since.timestamp() * 1000)
        times = await consumer.offsets_for_times(dict.fromkeys(tps, since_ms))
        at_time = {tp: None if one is None else one.offset for tp, one in times.items()}
        return positions(committed, at_time, await consumer.end_offsets(tps))

    async def _members(self) -> list[str]:
        """Client ids of the group's members."""
        admin = AIOKafkaAdminClient(
            bootstrap_servers=self._app.settings.broker_bootstrap,
            client_id=f"{self._app.settings.worker_id}-rewind",
            request_timeout_ms=int(REQUEST_S * 1000),
        )
        await admin.start()
        try:
            found: list[str] = []
            for answer in await admin.describe_consumer_groups([self._group]):
                for group in answer.groups:
                    code, *_, members = group[:6]
                    if code == _GROUP_ID_NOT_FOUND:
                        continue
                    if code:
                        raise for_code(code)(self._group)
                    found += [member[1] for member in members]
            return sorted(found)
        finally:
            await admin.close()

    async def _end(self, found: Rewind, status: str, error: str = "") -> None:
        await rewinds.end(self._app.db, found.id, status, error)
