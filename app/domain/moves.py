"""The moves of a saga: what every decision is put together from.

`Draft` collects commands and history while one event is decided and lives for one call. The
functions return the changed record; those that send or tell take the draft.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from app.domain.decision import Applied, Command, SagaEvent, Transition
from app.domain.definition import Kind, Policy, Result, State
from app.domain.record import Saga, StepRecord, StepStatus, compensation_id, forward_id


class Draft:
    """One decision in the making; local to one call of `decide`."""

    def __init__(
        self,
        saga: Saga | None,
        event: SagaEvent,
        now: datetime,
        policy: Policy,
        jitter: float,
    ) -> None:
        self.before = saga
        self.event = event
        self.now = now
        self.policy = policy
        self.jitter = jitter
        self.commands: list[Command] = []
        self.transitions: list[Transition] = []

    def applied(self, saga: Saga) -> Applied:
        """Close the draft: the next version with all that was collected."""
        version = 1 if self.before is None else self.before.version + 1
        saga = msgspec.structs.replace(saga, version=version, updated_at=self.now)
        return Applied(saga, tuple(self.commands), tuple(self.transitions))

    def note(self, saga: Saga, event: str, reason: str = "") -> None:
        """Append history that changes no state."""
        self._line(event, saga.state, saga.state, reason)

    def enter(self, saga: Saga, state: State, reason: str = "") -> Saga:
        """Move to `state`, with its line of history unless the saga is already there."""
        if state is not saga.state:
            self._line(state.lower(), saga.state, state, reason)
        return msgspec.structs.replace(saga, state=state)

    def begin(self, saga: Saga, event: str, reason: str = "") -> None:
        """Append the first line of the history."""
        self._line(event, None, saga.state, reason)

    def send(self, saga: Saga, index: int) -> Saga:
        """Send the step's command for the first time, and wait for its answer."""
        return self._send(msgspec.structs.replace(saga, tries=0, tries_before=0), index)

    def send_again(self, saga: Saga, index: int) -> Saga:
        """Send the outstanding command once more, and wait longer."""
        return self._send(msgspec.structs.replace(saga, tries=saga.tries + 1), index)

    def send_anew(self, saga: Saga, index: int) -> Saga:
        """Send the outstanding command once more, and be as patient as with a new one."""
        before = saga.redrives + 1
        return self._send(msgspec.structs.replace(saga, tries=0, tries_before=before), index)

    def wait(self, saga: Saga, index: int, *, after: datetime | None = None) -> Saga:
        """Set the timer for the step, counted from now or from `after` when that is later.

        A participant cannot make the saga wait longer than `Policy.retry_wait_max_s`.
        """
        wait_s = self.policy.wait_s(saga.plan.steps[index], saga.tries, self.jitter)
        start = self.now
        if after is not None:
            latest = self.now + timedelta(seconds=self.policy.retry_wait_max_s)
            start = max(start, min(after, latest))
        return timer(saga, start + timedelta(seconds=wait_s))

    def _send(self, saga: Saga, index: int) -> Saga:
        self.commands.append(command_of(saga, index, self.now, self.policy))
        return self.wait(saga, index)

    def _line(self, event: str, source: State | None, target: State, reason: str) -> None:
        self.transitions.append(
            Transition(event, source, target, reason, self.event.event_id, self.now)
        )


def command_of(saga: Saga, index: int, now: datetime, policy: Policy) -> Command:
    """Return the outstanding command of a step; a forward one may start until patience runs out."""
    step = saga.plan.steps[index]
    if saga.steps[index].status == "COMPENSATING":
        undo = step.compensation
        assert undo is not None, "a definition without this compensation is refused"
        return Command(compensation_id(saga, index), undo.topic, undo.build(saga))
    not_after = now + timedelta(seconds=policy.patience_s(step, saga.tries))
    return Command(forward_id(saga, index), step.topic, step.build(saga, not_after))


def with_step(saga: Saga, index: int, status: StepStatus, body: Result) -> Saga:
    """Set a step's status, its reference and the newest participant version seen."""
    record = saga.steps[index]
    reference = getattr(body, "payment_id", "") or getattr(body, "shipment_id", "")
    return replaced(
        saga,
        index,
        msgspec.structs.replace(
            record,
            status=status,
            state_version=max(record.state_version, body.state_version),
            reference=reference or record.reference,
        ),
    )


def replaced(saga: Saga, index: int, record: StepRecord) -> Saga:
    """Replace the record of one step."""
    steps = (*saga.steps[:index], record, *saga.steps[index + 1 :])
    return msgspec.structs.replace(saga, steps=steps)


def timer(saga: Saga, due: datetime | None) -> Saga:
    """Set or stop the timer; earlier timers no longer count."""
    return msgspec.structs.replace(saga, due=due, timer=saga.timer + 1)


def compensate_again(draft: Draft, saga: Saga, index: int) -> Saga:
    """The step succeeded after its compensation: it needs another one, under a new id."""
    record = saga.steps[index]
    draft.note(saga, "late_success", saga.plan.steps[index].name)
    attempt = record.compensation_attempt + 1
    return replaced(
        saga,
        index,
        msgspec.structs.replace(record, status="DONE", compensation_attempt=attempt),
    )


def start(draft: Draft, saga: Saga, index: int) -> Saga:
    """Start the step at `index`; past the last one the order is completed."""
    if index == len(saga.steps):
        return timer(draft.enter(saga, State.COMPLETED, ""), None)
    step = saga.plan.steps[index]
    saga = replaced(saga, index, msgspec.structs.replace(saga.steps[index], status="SENT"))
    return draft.send(draft.enter(saga, step.state), index)


def resume(draft: Draft, saga: Saga, index: int) -> Saga:
    """Take a parked step up again where it stood, or the flag off one that must succeed."""
    step, record = saga.plan.steps[index], saga.steps[index]
    if record.status == "PARKED":
        saga = replaced(saga, index, msgspec.structs.replace(record, status="SENT"))
    saga = msgspec.structs.replace(saga, tries=0, tries_before=saga.redrives)
    if saga.final:
        return saga
    return draft.enter(saga, State.COMPENSATING if saga.reason else step.state, saga.reason)


def turn_back(draft: Draft, saga: Saga, reason: str) -> Saga:
    """The order will not complete: undo what was done or may have been done."""
    return compensate_next(draft, msgspec.structs.replace(saga, reason=reason))


def compensate_next(draft: Draft, saga: Saga) -> Saga:
    """Compensate the last step that was or may have been done; without one, it is over."""
    for index in reversed(range(len(saga.steps))):
        if saga.steps[index].status in ("SENT", "PARKED", "DONE"):
            record = msgspec.structs.replace(saga.steps[index], status="COMPENSATING")
            saga = replaced(saga, index, record)
            if not saga.final:
                saga = draft.enter(saga, State.COMPENSATING, saga.reason)
            return draft.send(saga, index)
    if not saga.final:
        saga = draft.enter(saga, State.CANCELLED, saga.reason)
    return timer(saga, None)


def flag(draft: Draft, saga: Saga, reason: str) -> Saga:
    """Flag the order PARKED, once, while its re-drive goes on; a final status stays."""
    if saga.final:
        if saga.tries <= draft.policy.compensation_attempts_max:
            draft.note(saga, "parked", reason)
        return saga
    return draft.enter(saga, State.PARKED, reason)


def must_succeed(saga: Saga, index: int) -> bool:
    """Tell whether the outstanding command can no longer be given up."""
    status, kind = saga.steps[index].status, saga.plan.steps[index].kind
    return status == "COMPENSATING" or kind is Kind.RETRIABLE
