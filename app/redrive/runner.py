"""One job, from its first letter to its last, in steps that may each be repeated.

A step of a job: what is claimed is judged, sent, acknowledged and settled; then the next letters
are claimed. Claiming and settling are transactions that hold the job's row, so a worker whose lease
was taken over writes nothing; what it may still send is the same record as its successor's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from app.db import dead_letter_claims as claims
from app.db import dead_letter_jobs as jobs
from app.db.dead_letter_claims import Position
from app.db.dead_letter_selection import protected
from app.domain import redrive as rule
from app.domain.redrive import ACT, ALREADY_DONE, REFUSED, Verdict
from app.errors import OutageBudgetSpent
from app.failpoints import failpoint
from app.messages import Output
from app.observability import metrics, tracing
from app.observability.logging import bound, get_log
from app.outages import Stopped
from app.redrive import record
from app.redrive.deletion import delete_records
from app.redrive.edit import make_edit
from app.redrive.judge import Judged, judge, policy_of
from app.redrive.sending import Outlet, send
from app.redrive.spans import record_job, record_sent, trace_of
from app.trace_context import trace_id_of

if TYPE_CHECKING:
    from datetime import datetime

    from app.clock import Clock
    from app.db.dead_letter_jobs import Job
    from app.db.deadletters import DeadLetter
    from app.db.engine import Database, Transaction
    from app.settings import Settings

log = get_log(__name__)
Patiently = Callable[[str, Callable[[], Awaitable[None]]], Awaitable[None]]


class LeaseLost(Exception):
    """Another worker has the job."""


class Outcome(NamedTuple):
    """What becomes of a claimed letter: its new status, and why, as a line of the job's tally."""

    letter: DeadLetter
    status: str
    reason: str


class Runner:
    """Does the jobs of one worker, one at a time. `pace` waits, and says whether to go on."""

    def __init__(
        self,
        settings: Settings,
        db: Database,
        outlet: Outlet,
        clock: Clock,
        owner: str,
        patiently: Patiently,
        pace: Callable[[float], Awaitable[bool]],
    ) -> None:
        self._settings = settings
        self._db = db
        self._outlet = outlet
        self._clock = clock
        self._owner = owner
        self._patiently = patiently
        self._pace = pace
        self._policy = policy_of(settings)
        self._ttl_s = settings.dlq_lease_ttl_s

    async def run(self, job: Job) -> None:
        """Work on `job` until it has ended, is another's, or `pace` says to stop.

        Raises OutageBudgetSpent and Stopped from `patiently`; anything else fails the job only.
        """
        began_ns = tracing.now_ns()
        with bound(job=job.id, trace_id=trace_id_of(trace_of(job))):
            log.info("redrive.begun", kind=job.kind, letters=job.total)
            try:
                await (self._purge(job) if job.kind == "purge" else self._walk(job))
            except LeaseLost:
                log.warning("redrive.lease_lost")
            except (OutageBudgetSpent, Stopped):
                raise
            except Exception as error:
                log.error("redrive.failed", error=error)
                why = f"{type(error).__name__}: {error}"
                with suppress(LeaseLost):  # then it is another's, who fails or finishes it
                    await self._patiently("fail", lambda: self._end(job, "FAILED", why))
        record_job(job, began_ns)

    async def _walk(self, job: Job) -> None:
        """Settle what a dead worker left claimed, then claim and settle until nothing is left."""
        limit = max(1, min(self._settings.dlq_batch_max, job.rate_per_s // 4))
        claimed: list[DeadLetter] = []
        known: list[DeadLetter] | None = None

        async def claim() -> None:
            nonlocal claimed, known
            known = claimed = await self._claim(job, limit)

        async def settle() -> None:
            """What was just claimed is known; a repeat reads again what is still to be done."""
            nonlocal known
            letters, known = known, None
            await self._settle_claimed(job, letters)

        await self._patiently("settle", settle)
        while True:
            began_s = monotonic()
            await self._patiently("claim", claim)
            if not claimed:
                return
            await self._patiently("settle", settle)
            rest_s = began_s + len(claimed) / job.rate_per_s - monotonic()
            if not await self._pace(max(0.0, rest_s)):
                await self._patiently("give_back", lambda: self._give_back(job))
                return

    async def _claim(self, job: Job, limit: int) -> list[DeadLetter]:
        """Claim the next letters; end the job when there are none, or when it is cancelled."""
        async with self._db.transaction() as tx:
            state = await self._locked(tx, job)
            now = self._clock.now()
            if state.cancel_requested:
                _finish(tx, job, "CANCELLED", now)
                return []
            letters = await claims.claim(
                tx, job.id, job.work.selection, state.checkpoint, job.created_at, limit
            )
            if not letters:
                _finish(tx, job, "DONE", now)
                return []
            last = letters[-1]
            place = Position(last.topic, last.partition, last.offset)
            jobs.advance(tx, job.id, state._replace(checkpoint=place))
        await failpoint("dlq.after_claim")
        return letters

    async def _settle_claimed(self, job: Job, letters: Sequence[DeadLetter] | None) -> None:
        """Do with the claimed letters what the job is for, and settle them; None: read them."""
        async with self._db.transaction() as tx:
            if letters is None:
                letters = await claims.claimed(tx, job.id)
            if not letters:
                return
            outcomes, outputs = await self._decide(tx, job, letters)
        await failpoint("dlq.before_redrive")
        began_ns = tracing.now_ns()
        refused = await send(self._outlet, outputs)
        await failpoint("dlq.after_redrive")
        record_sent(
            job, letters, {one: o for one, o in outputs.items() if one not in refused}, began_ns
        )
        final = [_with_refusal(one, refused.get(one.letter.id, "")) for one in outcomes]
        async with self._db.transaction() as tx:
            state = await self._locked(tx, job)
            await claims.settle(
                tx,
                job.id,
                [(one.letter.id, one.status, one.reason) for one in final],
                job.requested_by,
                self._clock.now(),
            )
            jobs.advance(tx, job.id, _counted(state, final))
        for one in final:
            metrics.DEAD_LETTERS_SETTLED.child(job.kind, one.status.lower()).inc()

    async def _decide(
        self, tx: Transaction, job: Job, letters: Sequence[DeadLetter]
    ) -> tuple[list[Outcome], dict[str, Output]]:
        """What becomes of each letter, and the records to send first, by letter id."""
        if job.kind == "discard":
            return [Outcome(one, "DISCARDED", job.reason or "discarded") for one in letters], {}
        now = self._clock.now()
        if job.kind == "edit":
            return await self._decide_edit(tx, job, letters, now)
        outcomes, outputs = [], {}
        for one in await judge(tx, letters, now, self._policy):
            outcomes.append(_outcome(one, job))
            if one.verdict.answer == ACT:
                outputs[one.letter.id] = record.sent_back(one.letter, one.not_after)
        return outcomes, outputs

    async def _decide_edit(
        self, tx: Transaction, job: Job, letters: Sequence[DeadLetter], now: datetime
    ) -> tuple[list[Outcome], dict[str, Output]]:
        outcomes, outputs = [], {}
        source = f"{self._settings.namespace}/dlq"
        for letter in letters:
            made = await make_edit(
                tx, letter, job.work.value.encode(), source, job.created_at, self._policy
            )
            if isinstance(made, Verdict):
                outcomes.append(Outcome(letter, "OPEN", f"{made.answer}: {made.reason}"))
            else:
                outputs[letter.id] = made
                outcomes.append(Outcome(letter, "REDRIVEN", f"edited: {job.reason}".rstrip(": ")))
        return outcomes, outputs

    async def _purge(self, job: Job) -> None:
        """Delete the records, then what the index has of them: begun, it is finished."""
        if not await self._purge_has_begun(job):
            return
        ends = job.work.ends
        await self._patiently(
            "delete", lambda: delete_records(self._settings, job.work.topic, ends)
        )
        await failpoint("dlq.after_delete")
        more = True

        async def empty() -> None:
            nonlocal more
            more = await self._empty(job)

        while more:
            await self._patiently("purge", empty)

    async def _purge_has_begun(self, job: Job) -> bool:
        """Write down that deleting begins, unless it had begun; False when the job has ended.

        It ends before that when it was cancelled, or would lose what a running saga needs.
        """
        begun = True

        async def begin() -> None:
            nonlocal begun
            async with self._db.transaction() as tx:
                state = await self._locked(tx, job)
                if state.checkpoint != Position():
                    return
                begun = await self._may_purge(tx, job, state)
                if begun:
                    place = Position(job.work.topic)
                    jobs.advance(tx, job.id, state._replace(checkpoint=place))

        await self._patiently("begin", begin)
        return begun

    async def _may_purge(self, tx: Transaction, job: Job, state: jobs.State) -> bool:
        if state.cancel_requested:
            _finish(tx, job, "CANCELLED", self._clock.now())
            return False
        needed = 0
        if not job.work.force:
            needed = await protected(tx, job.work.topic, job.work.ends)
        if needed:
            why = f"{needed} open letters belong to orders that are under way"
            _finish(tx, job, "FAILED", self._clock.now(), why)
        return not needed

    async def _empty(self, job: Job) -> bool:
        """Empty the next letters of the index; False once that was all and the job is DONE."""
        async with self._db.transaction() as tx:
            state = await self._locked(tx, job)
            now = self._clock.now()
            for partition, before in sorted(job.work.ends.items()):
                if partition < state.checkpoint.partition:
                    continue
                place = state.checkpoint
                if place.partition != partition:
                    place = Position(job.work.topic, partition, -1)
                emptied, purged, last = await claims.empty(
                    tx, job.id, place, before, actor=job.requested_by, reason=job.reason or "purge",
                    now=now, limit=self._settings.dlq_batch_max,
                )  # fmt: skip
                if emptied:
                    tally = {**state.tally, "purged": state.tally.get("purged", 0) + purged}
                    jobs.advance(
                        tx,
                        job.id,
                        state._replace(
                            done=state.done + purged,
                            tally=tally,
                            checkpoint=Position(job.work.topic, partition, last),
                        ),
                    )
                    return True
            _finish(tx, job, "DONE", now)
            return False

    async def _locked(self, tx: Transaction, job: Job) -> jobs.State:
        state = await jobs.renew(tx, job.id, self._owner, self._ttl_s)
        if state is None:
            raise LeaseLost
        return state

    async def _give_back(self, job: Job) -> None:
        await jobs.give_back(self._db, job.id, self._owner)

    async def _end(self, job: Job, status: str, error: str) -> None:
        async with self._db.transaction() as tx:
            await self._locked(tx, job)
            _finish(tx, job, status, self._clock.now(), error)


def _finish(tx: Transaction, job: Job, status: str, now: datetime, error: str = "") -> None:
    """End the job; what it still has claimed is open again."""
    claims.release(tx, job.id)
    jobs.finish(tx, job.id, status, now, error)
    log.info("redrive.ended", status=status, error=error)


def _outcome(judged: Judged, job: Job) -> Outcome:
    answer, reason = judged.verdict
    if answer == ACT:
        return Outcome(judged.letter, "REDRIVEN", job.reason or reason)
    if answer == ALREADY_DONE:
        return Outcome(judged.letter, "DISCARDED", f"{ALREADY_DONE}: {reason}")
    return Outcome(judged.letter, "OPEN", f"{REFUSED}: {reason}")


def _with_refusal(outcome: Outcome, error: str) -> Outcome:
    return outcome._replace(status="OPEN", reason=f"{REFUSED}: {error}") if error else outcome


def _counted(state: jobs.State, outcomes: Sequence[Outcome]) -> jobs.State:
    tally = dict(state.tally)
    refused = 0
    for one in outcomes:
        line = rule.ACT if one.status == "REDRIVEN" else one.reason
        if one.status == "OPEN":
            refused += 1
        tally[line] = tally.get(line, 0) + 1
    return state._replace(
        done=state.done + len(outcomes) - refused, refused=state.refused + refused, tally=tally
    )
