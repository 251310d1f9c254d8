"""What sending a dead letter back would do now: a pure rule over the letter and its saga.

Three answers. `act`: somebody would do something with it. `already_done`: its effect is there, or
nothing depends on it any more, so nothing is left to do. `refused`: sending it would do harm, or
could not work: the order has turned back, the saga has gone on under another command, the bytes
are no message.

A saga's own consumer is asked by its own rule: what `decide` would answer is the verdict.
"""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from typing import Final, Literal, NamedTuple

import msgspec

from app import ids
from app.domain.decision import Applied, Illegal, Incoming
from app.domain.definition import (
    COMPENSATION,
    DEFAULT_POLICY,
    DEFINITIONS,
    FORWARD,
    Policy,
    Step,
)
from app.domain.moves import command_of
from app.domain.record import Saga, StepRecord, attempt_of, compensation_id, forward_id
from app.domain.saga import decide
from app.messages.body import Body

Answer = Literal["act", "already_done", "refused"]
ACT: Final = "act"
ALREADY_DONE: Final = "already_done"
REFUSED: Final = "refused"

SAGA_CONSUMER: Final = "orchestrator"


class Verdict(NamedTuple):
    """The answer and why, in words that count as one group (no ids in them)."""

    answer: Answer
    reason: str


class Facts(NamedTuple):
    """What is known of a dead letter: `body` is None when it could not be read, `unreadable` says
    why; `done` when the inbox of its consumer says that the event is finished.
    """

    topic: str
    consumer: str
    event_id: str
    body: Body | None
    unreadable: str
    done: bool


class Resent(NamedTuple):
    """A command that may be sent again in place of an unusable copy: its own id, and a body with a
    deadline from now."""

    command_id: str
    body: Body


def verdict(
    letter: Facts, saga: Saga | None, now: datetime, *, policy: Policy = DEFAULT_POLICY
) -> Verdict:
    """Say what redriving `letter` would do, `saga` being its order's, None when there is none."""
    if letter.body is None:
        return Verdict(REFUSED, f"unreadable: {letter.unreadable}")
    if letter.done:
        return Verdict(ALREADY_DONE, f"{letter.consumer} has finished it")
    if letter.consumer == SAGA_CONSUMER:
        return _by_saga(letter, saga, now, policy)
    if not is_command(letter.topic):
        return Verdict(ACT, f"{letter.consumer} would take it in")
    if saga is None:
        return Verdict(REFUSED, "its order has no saga")
    return _of_command(letter, saga)


def is_command(topic: str) -> bool:
    """Tell whether sagas send their commands to participants on `topic`."""
    return topic in _COMMAND_TOPICS


def as_command(
    saga: Saga | None, topic: str, body: Body, now: datetime, policy: Policy = DEFAULT_POLICY
) -> Resent | Verdict:
    """Say under which id `body`, edited by an operator, may be sent on the command topic `topic`.

    Only what the saga itself is waiting for may be sent, under the saga's own id: any other command
    would have an effect that no saga knows of. Otherwise a refusal.
    """
    index = None if saga is None else saga.current()
    if saga is None or index is None:
        return Verdict(REFUSED, "its order waits for no command")
    command = command_of(saga, index, now, policy)
    if _main_topic(topic) != command.topic:
        return Verdict(REFUSED, f"its order waits for {command.topic}")
    if _without_deadline(command.body) != _without_deadline(body):
        return Verdict(REFUSED, "it differs from what its saga commands")
    return Resent(command.command_id, command.body)


def _by_saga(letter: Facts, saga: Saga | None, now: datetime, policy: Policy) -> Verdict:
    decision = decide(saga, Incoming(letter.event_id, letter.body), now, policy=policy)
    if isinstance(decision, Applied):
        return Verdict(ACT, "the saga would take it in")
    if isinstance(decision, Illegal):
        return Verdict(REFUSED, f"the saga forbids it: {decision.reason}")
    return Verdict(ALREADY_DONE, f"the saga would ignore it: {decision.reason}")


def _of_command(letter: Facts, saga: Saga) -> Verdict:
    topic = _main_topic(letter.topic)
    for index, (step, record) in enumerate(zip(saga.plan.steps, saga.steps, strict=False)):
        if step.topic == topic:
            return _forward(letter, saga, index, step, record)
        if step.compensation is not None and step.compensation.topic == topic:
            return _backward(letter, saga, index, step, record)
    return Verdict(REFUSED, "its saga has no such step")


def _forward(letter: Facts, saga: Saga, index: int, step: Step, record: StepRecord) -> Verdict:
    if attempt_of(saga.order_id, step, FORWARD, record.attempt, letter.event_id) < 0:
        return Verdict(REFUSED, "its saga did not send it")
    if saga.reason:
        return Verdict(REFUSED, f"the order is {saga.state.value} ({saga.reason})")
    if letter.event_id != forward_id(saga, index):
        return Verdict(REFUSED, "its saga has sent a later attempt")
    if record.status == "DONE":
        return Verdict(ALREADY_DONE, f"the step {step.name} is DONE")
    if record.status in ("SENT", "PARKED"):
        return Verdict(ACT, f"the step {step.name} is {record.status}")
    return Verdict(REFUSED, f"the step {step.name} is {record.status}")


def _backward(letter: Facts, saga: Saga, index: int, step: Step, record: StepRecord) -> Verdict:
    latest = record.compensation_attempt
    if attempt_of(saga.order_id, step, COMPENSATION, latest, letter.event_id) < 0:
        return Verdict(REFUSED, "its saga did not send it")
    if letter.event_id != compensation_id(saga, index):
        return Verdict(REFUSED, "its saga has sent a later attempt")
    if record.status == "COMPENSATED":
        return Verdict(ALREADY_DONE, f"the step {step.name} is COMPENSATED")
    if record.status == "COMPENSATING":
        return Verdict(ACT, f"the step {step.name} is COMPENSATING")
    return Verdict(REFUSED, f"the step {step.name} is {record.status}")


def edited_id(letter_id: str, value: bytes) -> str:
    """Return the id of the message that replaces a dead letter: one per letter and new content."""
    return ids.uuid5(letter_id, f"edit:{sha256(value).hexdigest()}")


def _main_topic(topic: str) -> str:
    """The canary's commands are the stable version's commands."""
    return topic.removesuffix(".canary")


def _without_deadline(body: Body) -> object:
    known = msgspec.to_builtins(body)
    return type(body), {name: value for name, value in known.items() if name != "not_after"}


_COMMAND_TOPICS: Final = frozenset(
    topic
    for definition in DEFINITIONS.values()
    for step in definition.steps
    for topic in (step.topic, f"{step.topic}.canary", step.compensation and step.compensation.topic)
    if topic
)
