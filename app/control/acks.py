"""What a worker says of a control topic: how far it has it in force."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta


class Ack(msgspec.Struct, frozen=True, kw_only=True):
    """One worker has applied everything below `version`; keyed by the worker.

    A version is the place in the control topic after a change: Kafka numbers the changes, so
    versions never repeat and a deletion has one as well. `refused` says, by key, what the worker
    could not apply and why. `note` is what the worker adds for whoever looks.
    """

    worker: str
    role: str
    incarnation: str
    version: int
    at: Annotated[datetime, Meta(tz=True)]
    refused: dict[str, str] = {}
    note: dict[str, Any] = {}


DECODER = msgspec.json.Decoder(Ack)
encode = msgspec.json.Encoder().encode
