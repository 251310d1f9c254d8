"""The record of a running saga and its bytes, the same in the table and in PostgreSQL.

Bytes are a msgpack array that begins with the schema version and the definition's name. Fields are
only ever appended, with a default: older bytes stay readable, and older code ignores what newer
code appended. Anything else is a new schema version, which `from_bytes` refuses when it does not
know it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from app import ids
from app.domain.definition import (
    COMPENSATION,
    DEFINITIONS,
    FINAL,
    FORWARD,
    Definition,
    Kind,
    State,
    Step,
)
from app.errors import Poison

SCHEMA = 1

StepStatus = Literal[
    "WAITING",  # no command sent yet
    "SENT",  # the outcome is unknown
    "PARKED",  # dead-lettered, the outcome is unknown
    "DONE",
    "FAILED",  # it did not happen
    "COMPENSATING",  # its compensation was sent
    "COMPENSATED",
]


class StepRecord(msgspec.Struct, frozen=True, array_like=True):
    """Where one step stands.

    `attempt` and `compensation_attempt` number the current command ids. They grow only when the
    command under the old id was definitely refused, or when a step succeeds after it had been
    compensated; never for a re-drive. `state_version` is the participant's at its last definite
    result, `reference` what it calls the effect (payment id, shipment id). `skipped`: an operator
    gave its last command up, so that DONE or COMPENSATED is a waiver and not a fact.
    """

    status: StepStatus = "WAITING"
    attempt: int = 0
    compensation_attempt: int = 0
    state_version: int = 0
    reference: str = ""
    skipped: bool = False


class Saga(msgspec.Struct, frozen=True, array_like=True):
    """One order's saga; `version` counts its changes from 1 and fences stale writers.

    `reason` is set as soon as the order is known to end otherwise than COMPLETED. `tries` counts
    how often the outstanding command was sent again since patience with it began, `tries_before`
    how often before that; `timer` numbers the values of `due`. `created` is False for the stub that
    a cancellation or a review leaves when it overtakes the creation; `approved` tells such a stub's
    verdict. `ordered_at` is when the customer's order was accepted, by the clock of the API.
    """

    schema: int
    definition: str
    order_id: str
    version: int
    state: State
    reason: str
    steps: tuple[StepRecord, ...]
    total_minor: int = 0
    currency: str = ""
    lines: tuple[tuple[str, int], ...] = ()
    address: str | None = None
    due: datetime | None = None
    timer: int = 0
    tries: int = 0
    cancel: Literal["", "requested", "refused"] = ""
    created: bool = True
    review: bool = False
    correlation_id: str = ""
    traceparent: str = ""
    started_at: datetime | None = None
    updated_at: datetime | None = None
    approved: bool = False
    tries_before: int = 0
    ordered_at: datetime | None = None

    @property
    def redrives(self) -> int:
        """How often the outstanding command was sent again, by timers and operators."""
        return self.tries_before + self.tries

    @property
    def final(self) -> bool:
        """Whether the order's status will never change again."""
        return self.state in FINAL

    @property
    def settled(self) -> bool:
        """Whether the saga is final and nothing is outstanding: only then may it be forgotten."""
        return self.final and self.due is None

    @property
    def plan(self) -> Definition:
        """The definition this saga runs by; raises KeyError when this code does not know it."""
        return DEFINITIONS[self.definition]

    @property
    def past_pivot(self) -> bool:
        """Whether the pivot has succeeded: from here on the order can only be completed."""
        return not self.reason and any(
            step.kind is Kind.PIVOT and record.status == "DONE"
            for step, record in zip(self.plan.steps, self.steps, strict=True)
        )

    def current(self) -> int | None:
        """Return the index of the step whose command is outstanding, parked ones included."""
        for index in reversed(range(len(self.steps))):
            if self.steps[index].status in ("SENT", "PARKED", "COMPENSATING"):
                return index
        return None

    @property
    def outstanding(self) -> str:
        """The operation whose answer is awaited or parked (`charge`, `refund`), empty for none."""
        index = self.current()
        if index is None:
            return ""
        step = self.plan.steps[index]
        undo = step.compensation if self.steps[index].status == "COMPENSATING" else None
        return undo.operation if undo else step.operation


def forward_id(saga: Saga, index: int) -> str:
    """Return the id of the step's current command."""
    step, record = saga.plan.steps[index], saga.steps[index]
    return ids.command_id(saga.order_id, step.name, FORWARD, record.attempt)


def compensation_id(saga: Saga, index: int) -> str:
    """Return the id of the step's current compensation."""
    step, record = saga.plan.steps[index], saga.steps[index]
    return ids.command_id(saga.order_id, step.name, COMPENSATION, record.compensation_attempt)


def attempt_of(order_id: str, step: Step, direction: str, latest: int, command_id: str) -> int:
    """Return which attempt up to `latest` a command id is, -1 when it is none of them."""
    for attempt in range(latest, -1, -1):
        if ids.command_id(order_id, step.name, direction, attempt) == command_id:
            return attempt
    return -1


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Saga).decode


def to_bytes(saga: Saga) -> bytes:
    """Return the bytes of a saga; equal sagas have equal bytes."""
    return _encode(saga)


def from_bytes(raw: bytes) -> Saga:
    """Return the saga of `to_bytes`; raises Poison(unknown_schema) for anything else."""
    try:
        saga = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise Poison("unknown_schema", str(exc)[:200]) from None
    if saga.schema != SCHEMA or saga.definition not in DEFINITIONS:
        raise Poison("unknown_schema", f"{saga.definition} schema {saga.schema}")
    return saga
