"""What Kafka says of every role's group: committed offsets, ends, members.

Asked by an administrator and by a reader without a group, so it is also told when no worker of a
role lives. Guarantees: a round asks each group and each partition once, reads at most READS_MAX
records, and ends within its time or raises. It commits and joins nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, for_code

from app.census.lag import History, Standing, TopicLag, standing, topic_lag
from app.flows import FLOWS
from app.roles import ROLES
from app.topic_admin import partition_counts

if TYPE_CHECKING:
    from app.settings import Settings

READS_MAX = 16
"""Records looked at in one round for their time; the others are looked at in the next."""
READ_WAIT_MS = 250
_GROUP_ID_NOT_FOUND = 69

Positions = Mapping[TopicPartition, int]


class Group(NamedTuple):
    """A role's group: its members, None when it does not exist, and its committed offsets."""

    role: str
    members: int | None
    committed: Positions


class KafkaBooks(NamedTuple):
    """One round: members by role, and every role's lag by topic."""

    members: dict[str, int]
    lags: list[TopicLag]


def watched_topics() -> dict[str, tuple[str, ...]]:
    """The topics that each consuming role's group reads."""
    return {
        name: tuple(topic.name for topic in flow.receives)
        for name, flow in FLOWS.items()
        if ROLES[name].consumes and flow.receives
    }


class KafkaCensus:
    """Asks one cluster again and again; for one event loop. After an error it connects anew."""

    def __init__(
        self,
        settings: Settings,
        now_s: Callable[[], float],
        topics: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """`now_s` is the time of day; `topics` are those of each role, by default all."""
        self._settings = settings
        self._now_s = now_s
        self._topics = watched_topics() if topics is None else topics
        self._histories: dict[TopicPartition, History] = defaultdict(History)
        self._read: dict[tuple[TopicPartition, int], float] = {}
        self._coordinators: dict[str, int] = {}
        self._partitions: dict[str, list[TopicPartition]] = {}
        self._admin: AIOKafkaAdminClient | None = None
        self._reader: AIOKafkaConsumer | None = None

    async def ask(self) -> KafkaBooks:
        """One round within `census_timeout_s`. Raises KafkaError, OSError and TimeoutError."""
        try:
            async with asyncio.timeout(self._settings.census_timeout_s):
                return await self._ask()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let Kafka go; the next round connects anew."""
        admin, reader = self._admin, self._reader
        self._admin = self._reader = None
        self._coordinators.clear()
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            if admin is not None:
                await admin.close()
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            if reader is not None:
                await reader.stop()

    async def _ask(self) -> KafkaBooks:
        await self._connect()
        assert self._reader is not None, "connected"
        groups = await self._groups()
        tps = sorted(tp for listed in self._partitions.values() for tp in listed)
        begins: Positions = await self._reader.beginning_offsets(tps)
        ends: Positions = await self._reader.end_offsets(tps)
        now_s = self._now_s()
        for tp, end in ends.items():
            self._histories[tp].note(now_s, end)
        standings = {
            group.role: {
                tp: standing(group.committed.get(tp), begins[tp], ends[tp])
                for topic in self._topics[group.role]
                for tp in self._partitions.get(topic, ())
            }
            for group in groups
        }
        moments = await self._moments(standings)
        self._forget(standings)
        return KafkaBooks(
            {group.role: group.members or 0 for group in groups if _is_known(group)},
            [
                lag
                for group in groups
                if _is_known(group)
                for lag in self._lags(group.role, standings[group.role], moments[group.role])
            ],
        )

    def _lags(
        self,
        role: str,
        standings: Mapping[TopicPartition, Standing],
        moments: Mapping[TopicPartition, float | None],
    ) -> Iterable[TopicLag]:
        now_s = self._now_s()
        for topic in self._topics[role]:
            here = self._partitions.get(topic, ())
            if here:
                yield topic_lag(
                    role,
                    topic,
                    {tp.partition: standings[tp] for tp in here},
                    {tp.partition: moments.get(tp) for tp in here},
                    now_s,
                )

    async def _moments(
        self, standings: Mapping[str, Mapping[TopicPartition, Standing]]
    ) -> dict[str, dict[TopicPartition, float | None]]:
        """When the oldest record that each role lacks was appended, by partition.

        Of two groups that stand at different places of one partition, one is looked at in this
        round and the other in the next.
        """
        found: dict[str, dict[TopicPartition, float | None]] = {}
        unread: dict[TopicPartition, int] = {}
        for role, by_tp in standings.items():
            found[role] = {}
            for tp, one in by_tp.items():
                if one.records:
                    moment_s = self._moment_s(tp, one.position)
                    found[role][tp] = moment_s
                    if moment_s is None:
                        unread[tp] = one.position
        if unread:
            await self._look_at(dict(list(unread.items())[:READS_MAX]))
            for role, known in found.items():
                for tp, moment_s in known.items():
                    if moment_s is None:
                        known[tp] = self._moment_s(tp, standings[role][tp].position)
        return found

    def _moment_s(self, tp: TopicPartition, position: int) -> float | None:
        read = self._read.get((tp, position))
        return self._histories[tp].moment_s(position) if read is None else read

    async def _look_at(self, positions: Positions) -> None:
        """Read the record at each position, or the first after it, for its timestamp."""
        missing = dict(positions)
        async with self._temporary_reader(positions) as reader:
            while missing:
                got = await reader.getmany(*missing, timeout_ms=READ_WAIT_MS, max_records=1)
                for tp, records in got.items():
                    if records:
                        self._read[tp, missing.pop(tp)] = records[0].timestamp / 1000
                        reader.pause(tp)

    @contextlib.asynccontextmanager
    async def _temporary_reader(self, positions: Positions) -> AsyncIterator[AIOKafkaConsumer]:
        """A reader that stands at `positions`; rarely needed, so it is not kept."""
        reader = self._new_reader("look")
        try:
            await reader.start()
            reader.assign(list(positions))
            for tp, offset in positions.items():
                reader.seek(tp, offset)
            yield reader
        finally:
            await reader.stop()

    def _forget(self, standings: Mapping[str, Mapping[TopicPartition, Standing]]) -> None:
        """Keep of the past only what the slowest group of each partition still needs."""
        lowest: dict[TopicPartition, int] = {}
        for by_tp in standings.values():
            for tp, one in by_tp.items():
                lowest[tp] = min(one.position, lowest.get(tp, one.position))
        for tp, position in lowest.items():
            self._histories[tp].forget_below(position)
        current = {(tp, one.position) for by_tp in standings.values() for tp, one in by_tp.items()}
        self._read = {place: at for place, at in self._read.items() if place in current}

    async def _groups(self) -> list[Group]:
        """Every role's group, asked side by side."""
        assert self._admin is not None, "connected"
        return await asyncio.gather(*(self._group(self._admin, role) for role in self._topics))

    async def _group(self, admin: AIOKafkaAdminClient, role: str) -> Group:
        name = f"{self._settings.namespace}-{role}"
        node = self._coordinators.get(name)
        if node is None:
            node = self._coordinators[name] = await admin.find_coordinator(name)
        known = await admin.list_consumer_group_offsets(name, node)
        # One group per question: aiokafka 0.14 cannot read an answer on several.
        [answer] = await admin.describe_consumer_groups([name], node)
        [(code, _, state, *_, members)] = [group[:6] for group in answer.groups]
        if code not in (0, _GROUP_ID_NOT_FOUND):
            raise for_code(code)(name)
        gone = bool(code) or state == "Dead"
        offsets = {tp: one.offset for tp, one in known.items() if one.offset >= 0}
        return Group(role, None if gone else len(members), offsets)

    async def _connect(self) -> None:
        if self._admin is None:
            self._admin = AIOKafkaAdminClient(
                bootstrap_servers=self._settings.broker_bootstrap,
                client_id=f"{self._settings.worker_id}-census",
                request_timeout_ms=int(self._settings.census_timeout_s * 1000),
                metadata_max_age_ms=int(self._settings.metadata_max_age_s * 1000),
            )
            await self._admin.start()
        if self._reader is None:
            self._reader = self._new_reader("census")
            await self._reader.start()
            await self._know_partitions(self._admin)
            # Assigned and never fetched; else each topic's leader would be asked for by itself.
            everything = [tp for listed in self._partitions.values() for tp in listed]
            self._reader.assign(everything)
            self._reader.pause(*everything)

    async def _know_partitions(self, admin: AIOKafkaAdminClient) -> None:
        """Topics that do not exist are left out: asking for their ends would never be answered."""
        wanted = {topic for listed in self._topics.values() for topic in listed}
        self._partitions = {
            topic: [TopicPartition(topic, number) for number in range(count)]
            for topic, count in (await partition_counts(admin, sorted(wanted))).items()
        }

    def _new_reader(self, purpose: str) -> AIOKafkaConsumer:
        settings = self._settings
        return AIOKafkaConsumer(
            bootstrap_servers=settings.broker_bootstrap,
            client_id=f"{settings.worker_id}-{purpose}",
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            request_timeout_ms=int(settings.census_timeout_s * 1000),
            metadata_max_age_ms=int(settings.metadata_max_age_s * 1000),
        )


def _is_known(group: Group) -> bool:
    """An optional role that never ran is not missed."""
    return bool(group.members or group.committed or not ROLES[group.role].optional)
