"""How the relay sends, and what an error says about whom.

An idempotent producer is of no more use after a refusal or an expired send: the sequence numbers of
that partition have a gap, and the broker refuses whatever follows (OutOfOrderSequenceNumber). So
the relay asks for a new one after every error; its rows are still in the outbox.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from aiokafka import errors

if TYPE_CHECKING:
    from collections.abc import Sequence


class Publisher(Protocol):
    """One round's way out: `flush` returns when everything added was acknowledged."""

    async def add(
        self,
        topic: str,
        partition: int | None,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Append one record; partition None: by hash of the key. ValueError if it can never fit."""

    async def flush(self) -> Any:
        """Send what was added and await every acknowledgement; raises what the client raised."""


class Outlet(Protocol):
    """The way to Kafka, made again when it is in doubt."""

    def open(self) -> Publisher:
        """Return the way out of one round."""

    async def reset(self) -> None:
        """Replace the producer; raises KafkaError while there is no broker."""

    async def close(self) -> None:
        """Let the producer go."""


# The record can never be accepted as it is: too large, or not encodable.
_HOPELESS = (
    ValueError,
    TypeError,
    errors.InvalidTopicError,
    errors.MessageSizeTooLargeError,
    errors.RecordListTooLargeError,
    errors.RecordTooLargeError,
    errors.UnsupportedForMessageFormatError,
)
# The broker does not want it now; an operator may change that.
_UNWANTED = (errors.PolicyViolationError, errors.TopicAuthorizationFailedError)


def is_hopeless(error: BaseException) -> bool:
    """Whether one of the records can never be accepted as it is."""
    return isinstance(error, _HOPELESS)


def is_refusal(error: BaseException) -> bool:
    """Whether `error` is about one of the records; any other KafkaError is about the way there."""
    return isinstance(error, (*_HOPELESS, *_UNWANTED))
