"""Sending records back: acknowledged one by one or not at all; what the broker refuses is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from aiokafka.errors import KafkaError

from app.relay.publisher import Publisher, is_refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.messages import Output


class Outlet(Protocol):
    """The way to Kafka, made again when it is in doubt."""

    async def ready(self) -> Publisher:
        """Return the way out of one round, connecting when need be."""

    async def close(self) -> None:
        """Let the producer go."""


async def send(outlet: Outlet, outputs: Mapping[str, Output]) -> dict[str, str]:
    """Send what stands under each letter's id; return what the broker refuses, with its words.

    A batch with a refused record is split, because the error does not say which one it was. Raises
    the Kafka client's error when the way to the broker is at fault: then anything may have been
    written, and the caller sends all of it again.
    """
    if not outputs:
        return {}
    out = await outlet.ready()
    try:
        for one in outputs.values():
            await out.add(one.topic, one.partition, one.key, one.value, one.headers)
        await out.flush()
    except (KafkaError, ValueError, TypeError) as error:
        await outlet.close()
        if not is_refusal(error):
            raise
        if len(outputs) == 1:
            return {letter_id: f"{type(error).__name__}: {error}"[:300] for letter_id in outputs}
    else:
        return {}
    listed = list(outputs.items())
    middle = len(listed) // 2
    return {
        **await send(outlet, dict(listed[:middle])),
        **await send(outlet, dict(listed[middle:])),
    }
