"""Create, compare and list the declared topics on a broker.

Guarantees: `apply` may run any number of times and by many processes at once; it never deletes,
and never changes a partition count: that would move keys to other partitions.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError, for_code

from app.errors import BrokerOutage, Definite
from app.roles import ROLES
from app.settings import Settings
from app.topics import CATALOGUE, TopicSpec, changelog_of

_TOPIC_ALREADY_EXISTS = 36
_REQUEST_S = 15.0
_VISIBLE_S = 60.0


class TopicMismatch(Definite):
    """A topic on the broker cannot be made what is declared."""

    code = "topic_mismatch"
    doc = "A topic's partition count or replication differs from the declaration."


class TopicState(NamedTuple):
    """A declared topic beside what the broker has; `partitions` 0 means it does not exist.

    `differences` has one phrase per deviation, none when topic and declaration agree.
    """

    name: str
    declared_partitions: int
    partitions: int
    cleanup: str
    differences: tuple[str, ...]


def declared(settings: Settings) -> dict[str, TopicSpec]:
    """Every topic these settings need, by name: the catalogue and the tables' changelogs."""
    changelogs = [
        changelog_of(settings.namespace, role.name, table)
        for role in ROLES.values()
        if settings.lab or not role.lab_only
        for table in role.tables
    ]
    return {**CATALOGUE, **{spec.name: spec for spec in changelogs}}


async def compare(settings: Settings) -> list[TopicState]:
    """Every declared topic as it is on the broker, by name. Raises BrokerOutage."""
    specs = declared(settings)
    async with _admin(settings) as admin:
        found = await partition_counts(admin, list(specs))
        configs = await _configs(admin, list(found))
    return [
        _state(settings, specs[name], found.get(name), configs.get(name, {}))
        for name in sorted(specs)
    ]


async def apply(settings: Settings) -> tuple[list[str], list[str]]:
    """Create what is missing and set differing configurations; names (created, configured).

    Returns when all topics are visible in the broker's metadata and groups can be joined. Raises
    TopicMismatch when a topic exists with another partition count (nothing was changed then),
    BrokerOutage when the broker cannot be reached.
    """
    specs = declared(settings)
    async with _admin(settings) as admin:
        found = await partition_counts(admin, list(specs))
        wrong = [
            f"{name} has {count} partitions, {specs[name].partition_count(keyed)} are declared"
            for name, count in sorted(found.items())
            if count != specs[name].partition_count(keyed := settings.topic_partitions)
        ]
        if wrong:
            more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise TopicMismatch(
                "; ".join(wrong[:3])
                + more
                + ". Partition counts are fixed at creation: set topic_partitions"
                " to what exists, or use an empty broker"
            )
        created = [name for name in specs if name not in found]
        await _create(admin, settings, [specs[name] for name in created])
        configs = await _configs(admin, list(found))
        changed = [
            name for name in found if not specs[name].config().items() <= configs[name].items()
        ]
        if changed:
            resources = [
                ConfigResource(ConfigResourceType.TOPIC, name, specs[name].config())
                for name in changed
            ]
            for response in await admin.alter_configs(resources):
                for code, message, *_ in response.resources:
                    _check(code, message)
        await _wait_visible(admin, list(specs))
        await _wait_coordinator(admin, settings.namespace)
    return sorted(created), sorted(changed)


def _state(
    settings: Settings, spec: TopicSpec, partitions: int | None, config: Mapping[str, str]
) -> TopicState:
    wanted = spec.partition_count(settings.topic_partitions)
    differences = []
    if partitions is None:
        differences.append("does not exist")
    else:
        if partitions != wanted:
            differences.append(f"has {partitions} partitions instead of {wanted}")
        differences += [
            f"{key} is {config.get(key, 'unset')} instead of {value}"
            for key, value in spec.config().items()
            if config.get(key) != value
        ]
    return TopicState(spec.name, wanted, partitions or 0, spec.cleanup, tuple(differences))


@asynccontextmanager
async def _admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started admin client; every failure of the connection becomes BrokerOutage."""
    admin = AIOKafkaAdminClient(
        bootstrap_servers=settings.broker_bootstrap,
        client_id="symphony-admin",
        request_timeout_ms=int(_REQUEST_S * 1000),
    )
    try:
        await admin.start()
        yield admin
    except KafkaError as error:
        raise BrokerOutage(
            f"Kafka at {settings.broker_bootstrap} does not answer as it should"
            f" ({error}): is it running? See broker_bootstrap in `symphony config show`"
        ) from error
    finally:
        await admin.close()


async def partition_counts(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, int]:
    """Partition counts of those topics that exist."""
    existing = set(await admin.list_topics()) & set(names)
    if not existing:
        return {}
    return {
        topic["topic"]: len(topic["partitions"])
        for topic in await admin.describe_topics(sorted(existing))
        if not topic["error_code"]
    }


async def _configs(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    """Effective configuration of topics, by name."""
    if not names:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    configs: dict[str, dict[str, str]] = {}
    for response in await admin.describe_configs(resources):
        for code, message, _kind, name, entries in response.resources:
            _check(code, message)
            configs[name] = {entry[0]: entry[1] for entry in entries}
    return configs


async def _create(admin: AIOKafkaAdminClient, settings: Settings, specs: list[TopicSpec]) -> None:
    if not specs:
        return
    response: Any = await admin.create_topics(
        [
            NewTopic(
                spec.name,
                spec.partition_count(settings.topic_partitions),
                settings.topic_replicas,
                topic_configs=spec.config(),
            )
            for spec in specs
        ],
        timeout_ms=int(_REQUEST_S * 1000),
    )
    for name, code, *message in response.topic_errors:
        if code != _TOPIC_ALREADY_EXISTS:
            _check(code, f"{name}: {message[0] if message else ''}")


async def _wait_visible(admin: AIOKafkaAdminClient, names: list[str]) -> None:
    """A topic that a worker does not see at its first assignment would be ignored by it."""
    deadline = asyncio.get_running_loop().time() + _VISIBLE_S
    while len(await partition_counts(admin, names)) < len(names):
        if asyncio.get_running_loop().time() > deadline:
            raise BrokerOutage(f"topics are not visible {_VISIBLE_S:g} s after their creation")
        await asyncio.sleep(0.25)


async def _wait_coordinator(admin: AIOKafkaAdminClient, group: str) -> None:
    """The first group ever makes the broker create its offsets topic: workers need not wait."""
    deadline = asyncio.get_running_loop().time() + _VISIBLE_S
    while True:
        try:
            await admin.find_coordinator(group)
        except GroupCoordinatorNotAvailableError:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.25)
        else:
            return


def _check(code: int, message: str | None) -> None:
    if code:
        raise for_code(code)(message or "")
