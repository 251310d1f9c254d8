"""Walk the saga: every state it can reach, and the stories that the reference pages tell.

Both drive `decide` itself with synthetic answers, so what is generated from here cannot disagree
with what runs. Nothing is sampled: `explore` visits every record that differs in something other
than its version, its timer and its times.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Any, NamedTuple, get_args, get_type_hints

import msgspec

from app import ids
from app.domain.definition import COMPENSATION, DEFINITIONS, FORWARD, Policy, Result, State, Step
from app.domain.operations import ACTIONS, Action
from app.domain.saga import (
    Applied,
    Command,
    Decision,
    Incoming,
    Saga,
    StepTimedOut,
    decide,
    timeout,
)
from app.messages.orders import Item, OrderCancel, OrderCreated, OrderOperate, OrderReviewed

ORDER_ID = ids.uuid5("00000000-0000-0000-0000-000000000000", "order")
START = datetime(2026, 1, 1, tzinfo=UTC)
LATER = timedelta(days=1)
RECORDS_MAX = 20_000

#: Few retries, so that every counter's end is near; enough to pass through each branch.
SMALL = Policy(redrives_max=1, compensation_attempts_max=1)


class Edge(NamedTuple):
    """One decision of the exploration: `event` is its short name, `before` None for no record."""

    before: Saga | None
    event: str
    decision: Decision


def creation(*, review: bool = False) -> Incoming:
    """Return the creation of the sample order."""
    body = OrderCreated(
        order_id=ORDER_ID,
        customer_id="customer",
        items=[Item(product_id="sku", quantity=1, unit_price_minor=1000)],
        total_minor=1000,
        currency="EUR",
        created_at=START,
        review=review,
    )
    return Incoming(ids.event_id(ORDER_ID, "created"), body, ORDER_ID)


def cancellation(requested_by: str = "customer") -> Incoming:
    """Return a cancellation of the sample order."""
    body = OrderCancel(order_id=ORDER_ID, requested_by=requested_by)
    return Incoming(ids.event_id(ORDER_ID, f"cancel:{requested_by}"), body, ORDER_ID)


def review(*, approved: bool) -> Incoming:
    """Return the verdict of a reviewer on the sample order."""
    body = OrderReviewed(order_id=ORDER_ID, approved=approved)
    return Incoming(ids.event_id(ORDER_ID, f"review:{approved}"), body, ORDER_ID)


def intervention(action: Action, version: int, reason: str = "because") -> Incoming:
    """Return an operator's action on the sample order, seen at `version`."""
    body = OrderOperate(
        order_id=ORDER_ID, action=action, expected_version=version, operator="eve", reason=reason
    )
    return Incoming(ids.event_id(ORDER_ID, f"{action}:{version}:{reason}"), body, ORDER_ID)


@cache
def _outcomes(kind: type[Result]) -> tuple[str, ...]:
    return get_args(get_type_hints(kind)["outcome"])


def outcomes(step: Step) -> tuple[str, ...]:
    """Return every outcome that the step's result type can carry."""
    return _outcomes(step.result)


def answer(
    step: Step,
    direction: str,
    outcome: str,
    *,
    attempt: int = 0,
    state_version: int = 1,
    due_at: datetime | None = None,
) -> Incoming:
    """Return a participant's answer to a command of the sample order."""
    undo = step.compensation
    operation = step.operation if direction == FORWARD or undo is None else undo.operation
    command_id = ids.command_id(ORDER_ID, step.name, direction, attempt)
    return _answer(step.result, command_id, operation, outcome, state_version, due_at)


@lru_cache(maxsize=4096)
def _answer(
    kind: type[Result],
    command_id: str,
    operation: str,
    outcome: str,
    state_version: int,
    due_at: datetime | None,
) -> Incoming:
    fields: dict[str, Any] = {
        "order_id": ORDER_ID,
        "command_id": command_id,
        "operation": operation,
        "outcome": outcome,
        "state_version": state_version,
        "due_at": due_at,
    }
    body: Result = msgspec.convert(fields, kind)
    name = f"{outcome}:{state_version}"
    return Incoming(ids.event_id(command_id, name), body, ORDER_ID)


def vocabulary(
    saga: Saga | None, definition: str, *, late: bool = True
) -> Iterator[tuple[str, Incoming]]:
    """Yield every kind of event that the sample order may meet in this record, with its name.

    Answers are newer than everything the saga has seen; without `late` those of a step that is
    over are not.
    """
    yield "created", creation()
    yield "created for review", creation(review=True)
    yield "cancel by customer", cancellation()
    yield "cancel by operator", cancellation("operator")
    yield "approved", review(approved=True)
    yield "rejected", review(approved=False)
    for index, step in enumerate(DEFINITIONS[definition].steps):
        record = None if saga is None else saga.steps[index]
        version = 1 if record is None else record.state_version + 1
        if not late and record is not None and record.status in ("FAILED", "COMPENSATED"):
            version = 0
        for direction in (FORWARD, COMPENSATION):
            if direction == COMPENSATION and step.compensation is None:
                continue
            attempt = 0
            if record is not None:
                forward = direction == FORWARD
                attempt = record.attempt if forward else record.compensation_attempt
            undo = step.compensation
            operation = step.operation if direction == FORWARD or undo is None else undo.operation
            for outcome in outcomes(step):
                event = answer(step, direction, outcome, attempt=attempt, state_version=version)
                yield f"{operation} {outcome}", event
    if saga is not None and saga.due is not None:
        yield "silence", timeout(saga)
    else:
        yield "silence", Incoming(ORDER_ID, StepTimedOut(ORDER_ID, "payment", 0), ORDER_ID)
    for action in ACTIONS:
        yield f"operator {action}", intervention(action, 0 if saga is None else saga.version)
    yield "operator too late", intervention("retry", 0)


@cache
def explore(definition: str = "order.v1") -> tuple[Edge, ...]:
    """Return every decision on every record reachable from nothing, breadth first.

    Without late successes of steps that are over, which would multiply the records. Raises
    RuntimeError past RECORDS_MAX records: the saga would not be finite any more.
    """
    policy = SMALL._replace(definition=definition)
    edges: list[Edge] = []
    seen: set[Any] = {None}
    pending: deque[Saga | None] = deque([None])
    while pending:
        saga = pending.popleft()
        now = START if saga is None or saga.due is None else saga.due
        for name, event in vocabulary(saga, definition, late=False):
            decision = decide(saga, event, now, policy=policy)
            edges.append(Edge(saga, name, decision))
            if isinstance(decision, Applied):
                after = _bounded(decision.saga)
                key = _shape(after)
                if key not in seen:
                    seen.add(key)
                    pending.append(after)
        if len(seen) > RECORDS_MAX:
            raise RuntimeError(f"more than {RECORDS_MAX} records of {definition}")
    return tuple(edges)


def _bounded(saga: Saga) -> Saga:
    """Cap the counters that may grow for ever, at a value that has already had its effect."""
    steps = tuple(
        msgspec.structs.replace(
            record,
            attempt=min(record.attempt, 1),
            compensation_attempt=min(record.compensation_attempt, 1),
            state_version=min(record.state_version, 1),
        )
        for record in saga.steps
    )
    review = saga.review and saga.state is State.REVIEW
    return msgspec.structs.replace(
        saga, steps=steps, tries=min(saga.tries, 2), tries_before=0, review=review
    )


def _shape(saga: Saga) -> Any:
    return msgspec.structs.replace(
        saga, version=0, timer=0, due=START if saga.due else None, started_at=None, updated_at=None
    )


class Story(NamedTuple):
    """What is told on the page of outcomes: a cause, and what the participants do about it.

    `answers` maps an operation (`charge`, `refund`, ...) to its outcomes in order, None for
    silence; the last is repeated, absent ones are OK. `cancel_in` is the state in which the
    cancellation arrives (None: before the creation). `approved` is the reviewer's verdict.
    `operator` does that once the saga is PARKED.
    """

    cause: str
    answers: Mapping[str, Sequence[str | None]] = {}
    cancel_in: State | str | None = ""
    cancel_by: str = "customer"
    review: bool = False
    approved: bool | None = None
    operator: Action | None = None


class Ending(NamedTuple):
    """How a story ended: its states in order, the compensations sent, the final record."""

    states: tuple[State, ...]
    compensations: tuple[str, ...]
    saga: Saga
    notes: tuple[str, ...]


def tell(story: Story, definition: str = "order.v1") -> Ending:
    """Run a story to its end. Raises RuntimeError when it does not end within 100 decisions."""
    policy = SMALL._replace(definition=definition)
    teller = _Teller(story, policy)
    if story.cancel_in is None:
        teller.feed(cancellation(story.cancel_by))
    teller.feed(creation(review=story.review))
    if story.approved is not None:
        teller.feed(review(approved=story.approved))
    for _ in range(100):
        saga = teller.saga
        assert saga is not None
        cancelled = story.cancel_in and saga.state == story.cancel_in and not saga.cancel
        if cancelled:
            teller.feed(cancellation(story.cancel_by))
        elif story.operator and saga.state is State.PARKED and not teller.operated:
            teller.operated = True
            teller.feed(intervention(story.operator, saga.version))
        elif saga.settled:
            return Ending(
                tuple(teller.states), tuple(teller.compensations), saga, tuple(teller.notes)
            )
        else:
            teller.answer()
    raise RuntimeError(f"no end: {story.cause}")


class _Teller:
    """Feeds one saga and answers its outstanding command the way the story says."""

    def __init__(self, story: Story, policy: Policy) -> None:
        self.saga: Saga | None = None
        self.states: list[State] = []
        self.compensations: list[str] = []
        self.notes: list[str] = []
        self.operated = False
        self._answered: dict[str, int] = {}
        self._story = story
        self._policy = policy

    def feed(self, event: Incoming) -> None:
        now = START if self.saga is None or self.saga.due is None else self.saga.due
        decision = decide(self.saga, event, now, policy=self._policy)
        if isinstance(decision, Applied):
            self.saga = decision.saga
            for transition in decision.transitions:
                if transition.source is not transition.target:
                    self.states.append(transition.target)
                else:
                    self.notes.append(transition.event)
            self._sent(decision.commands)

    def answer(self) -> None:
        """Answer the outstanding command as the story says, or let its timer pass."""
        saga = self.saga
        assert saga is not None
        index = saga.current()
        assert index is not None, f"nothing outstanding in {saga.state}"
        step, record = saga.plan.steps[index], saga.steps[index]
        undo = step.compensation if record.status == "COMPENSATING" else None
        operation = undo.operation if undo else step.operation
        planned = self._story.answers.get(operation, ("OK",))
        given = self._answered.get(operation, 0)
        self._answered[operation] = given + 1
        outcome = planned[min(given, len(planned) - 1)]
        if outcome is None:
            self.feed(timeout(saga))
            return
        attempt = record.compensation_attempt if undo else record.attempt
        direction = COMPENSATION if undo else FORWARD
        version = record.state_version + 1
        self.feed(answer(step, direction, outcome, attempt=attempt, state_version=version))

    def _sent(self, commands: Sequence[Command]) -> None:
        assert self.saga is not None
        undone = {step.compensation.topic for step in self.saga.plan.steps if step.compensation}
        for command in commands:
            if command.topic in undone and command.topic not in self.compensations:
                self.compensations.append(command.topic)
