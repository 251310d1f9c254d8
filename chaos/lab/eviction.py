"""Remove a dead worker from its consumer group at once, instead of after its session timeout.

Only for a process that is known to be dead (reaped): a living member would be fenced out of its
group in the middle of its work.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import for_code
from aiokafka.protocol.group import LeaveGroupRequest

_LOOKS = 4
_LOOK_AGAIN_S = 0.3
_REQUEST_MS = 5000
_GROUP_ID_NOT_FOUND = 69


class Sparse:
    """Tells of something that keeps happening: the first time, then once in `every_s` at most."""

    def __init__(
        self,
        tell: Callable[[str], None],
        every_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell, self._every_s, self._monotonic = tell, every_s, monotonic
        self._next_s = float("-inf")

    def __call__(self, text: str) -> None:
        """Tell `text`, or leave it out when the last one was told less than `every_s` ago."""
        now = self._monotonic()
        if now >= self._next_s:
            self._next_s = now + self._every_s
            self._tell(text)


async def evict(bootstrap: str, group: str, client_id: str) -> int:
    """Make every member of `group` with `client_id` leave it; how many there were.

    Looks a few times within about a second, because a member that died while joining may appear
    late. Raises aiokafka.errors.KafkaError when the broker does not cooperate: then the session
    timeout does the work.
    """
    client = AIOKafkaClient(
        bootstrap_servers=bootstrap, client_id="symphony-evict", request_timeout_ms=_REQUEST_MS
    )
    admin = AIOKafkaAdminClient(
        bootstrap_servers=bootstrap, client_id="symphony-evict", request_timeout_ms=_REQUEST_MS
    )
    try:
        await client.bootstrap()
        await admin.start()
        for look in range(_LOOKS):
            if look:
                await asyncio.sleep(_LOOK_AGAIN_S)
            members = await _members(admin, group, client_id)
            for member in members:
                await _leave(client, group, member)
            if members:
                return len(members)
        return 0
    finally:
        await admin.close()
        await client.close()


async def _members(admin: AIOKafkaAdminClient, group: str, client_id: str) -> list[str]:
    """Ids of the members whose client id is `client_id` or begins with it and a dash."""
    found: list[str] = []
    for response in await admin.describe_consumer_groups([group]):
        for described in response.groups:
            code, *_, members = described[:6]
            if code == _GROUP_ID_NOT_FOUND:
                continue
            _check(code, f"{group} cannot be described")
            found += [
                member[0]
                for member in members
                if member[1] == client_id or member[1].startswith(f"{client_id}-")
            ]
    return found


async def _leave(client: AIOKafkaClient, group: str, member: str) -> None:
    node = await client.coordinator_lookup(CoordinationType.GROUP, group)
    await client.ready(node, group=ConnectionGroup.COORDINATION)
    answer = await client.send(
        node, LeaveGroupRequest(group, member), group=ConnectionGroup.COORDINATION
    )
    _check(answer.error_code, f"{member} could not be removed from {group}")


def _check(code: int, what: str) -> None:
    if code:
        raise for_code(code)(what)
