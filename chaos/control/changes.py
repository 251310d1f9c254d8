"""Changing chaos rules from a web process: checked, recorded, published, waited for.

Changes of all web workers are serialised by a lock in PostgreSQL and start from what the topic says
then. Guarantees: a change is published as one, all of it or nothing; what is wrong in any part
changes nothing; one that a worker refuses is taken back, with what it deleted, save where another
has come meanwhile; `enabled` is said only when every worker that lives and is meant said that it
has the rule in force; no fault strikes these connections to PostgreSQL or keeps them busy.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from app.control.publisher import Publisher
from app.db import audit_log, chaos_switch
from app.db.connection import Limits
from app.db.engine import Database
from app.db.journal import LiveWorker, live_workers
from app.errors import BrokerOutage, DatabaseOutage, TransientDatabase
from app.observability.logging import get_log
from chaos.control.bodies import Changed, RuleIn, rule_of, rule_out
from chaos.control.check import Known, Wrong, check, check_beside, roles_of
from chaos.control.outcome import Edit, lacking, numbered, refusals, undoing
from chaos.control.rule import Rule, encode
from web.problems import Problem, unavailable

if TYPE_CHECKING:
    from app.db.engine import Transaction
    from chaos.control.agent import Agent
    from web.context import Context

log = get_log(__name__)

SILENT: Final = 4
"""A worker lives while it missed fewer of its signs of life."""
CONNECTIONS_MAX: Final = 2
"""One for the change under way, one for who looks meanwhile."""
ANSWER_S: Final = 0.5
"""Kept of a request's time for its answer."""
IN_DOUBT: Final = (
    "Kafka did not confirm the change in time: all of it may still take effect, or nothing;"
    " GET /api/chaos/status tells."
)
SWEEP_MAX: Final = 20
SWEEP_S: Final = 5.0


class Act(NamedTuple):
    """Who changes rules, and why."""

    actor: str
    action: str
    reason: str
    request_id: str


class Change(NamedTuple):
    """What is to be done in one go: rules to set, ids to delete, other values to keep."""

    put: Sequence[RuleIn] = ()
    delete: Collection[str] = ()
    configs: Mapping[str, bytes] = {}


class Changes:
    """The one way in which a web process changes chaos rules."""

    def __init__(self, context: Context, agent: Agent, known: Known) -> None:
        self._context = context
        self._agent = agent
        self._known = known
        self._lock = asyncio.Lock()
        self._sweeping: asyncio.Task[None] | None = None
        self._undoing: set[asyncio.Task[None]] = set()
        limits = Limits.from_settings(context.settings, f"{context.settings.worker_id}-chaos")
        self._db = Database(limits, CONNECTIONS_MAX, observed=False)
        topic, acks = agent.topics
        self.publisher = Publisher(context.settings, topic=topic, acks=acks, clock=context.clock)

    async def close(self) -> None:
        """Let Kafka and PostgreSQL go."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait([self._sweeping])
        if self._undoing:
            await asyncio.wait(self._undoing, timeout=SWEEP_S)
        await self.publisher.close()
        await self._db.close()

    async def workers(self) -> list[LiveWorker]:
        """The workers that live now."""
        settings = self._context.settings
        return await live_workers(self._db, SILENT * settings.worker_seen_interval_s)

    async def switch(self) -> chaos_switch.Switch:
        """Where the kill switch is."""
        async with self._db.transaction() as tx:
            return await chaos_switch.read(tx)

    def meant(self, rule: Rule, live: Iterable[LiveWorker]) -> list[str]:
        """Those of `live` that are to have `rule` in force."""
        kind = self._known.kinds.get(rule.fault)
        roles = roles_of(rule, kind) if kind is not None else rule.scope.roles
        return [
            worker.worker_id
            for worker in live
            if worker.role in roles and rule.scope.targets(worker.role, worker.worker_id)
        ]

    def check(self, put: Iterable[RuleIn], act: Act) -> None:
        """Raise Problem 422 or 409 for rules that could not be made, whatever others there are."""
        settings, now = self._context.settings, self._context.clock.now()
        made: list[Rule] = []
        try:
            for wanted in put:
                rule = rule_of(wanted, act.actor, act.reason, 0, now, settings)
                check(rule, self._known, settings, now)
                check_beside(rule, made, self._known.kinds)
                made.append(rule)
        except Wrong as error:
            raise _problem(error) from None

    async def apply(self, change: Change, act: Act) -> Changed:
        """Do `change`; raises Problem 409, 422 or 503, whose detail says whether anything changed.

        What precedes its publishing is given up when too little time is left; the rest is not.
        """
        settings = self._context.settings
        answer_s = settings.api_request_timeout_s - ANSWER_S
        deadline = time.monotonic() + answer_s
        await self.publisher.listen()
        try:
            async with (
                asyncio.timeout(max(answer_s - settings.control_timeout_s, ANSWER_S)) as patience,
                self._lock,
            ):
                done = await self._publish(change, act, patience)
        except Wrong as error:
            raise _problem(error) from None
        except TimeoutError:
            raise unavailable(
                "chaos_busy", "Other changes or the servers took too long; nothing was changed."
            ) from None
        except BrokerOutage as error:
            log.warning("chaos.not_published", reason=error.detail)
            raise unavailable(
                "kafka_unavailable",
                "Kafka is away, so no rule can be changed; the kill switch works without it.",
            ) from None
        return await self._wait(done, act, deadline)

    async def kill(self, act: Act) -> chaos_switch.Switch:
        """Throw the switch: every rule that exists ends, whether Kafka is there or not."""
        switch = await self._agent.throw(
            act.actor,
            act.reason,
            lambda tx, thrown: self._record(tx, act, "all rules", {"epoch": thrown.epoch}),
        )
        self._sweep_later()
        return switch

    async def _publish(self, change: Change, act: Act, patience: asyncio.Timeout) -> _Done:
        """Check and publish a change, all of it or nothing; raises Wrong, BrokerOutage, Problem."""
        live = await self.workers()
        async with self._db.transaction() as tx:
            await chaos_switch.serialise(tx)
            await self._read_to_the_end()
            switch = await chaos_switch.read(tx)
            before = {
                i: rule
                for i, rule in self._agent.rules.known().items()
                if rule.epoch >= switch.epoch
            }
            rules, warnings = self._checked(change, before, live, act, switch.epoch)
            deleted = sorted(before.keys() & set(change.delete) - {rule.id for rule in rules})
            for rule in rules:
                self._record(tx, act, rule.id, msgspec.to_builtins(rule_out(rule)))
            for rule_id in deleted:
                self._record(tx, act, rule_id, {"deleted": True})
            edits = self._edits(rules, deleted, change.configs, before)
            patience.reschedule(None)
            doubt = ""
            version = self._agent.board.version
            try:
                if edits:
                    version = await self.publisher.publish_all([edit[:2] for edit in edits])
            except ValueError as error:
                raise Wrong(f"too much for one change: {error}") from None
            except BrokerOutage as error:
                # who is told 503 finds in the audit log what may have come of it
                doubt = error.detail
                unsure = act._replace(action=f"{act.action}.unconfirmed")
                self._record(tx, unsure, _names(edits), {"problem": doubt})
        if doubt:
            log.warning("chaos.not_confirmed", reason=doubt)
            raise unavailable("kafka_unavailable", IN_DOUBT)
        edits = numbered(edits, version)
        versions = {edit.key: edit.version for edit in edits}
        rules = [msgspec.structs.replace(rule, version=versions[rule.id]) for rule in rules]
        meant = self._all_meant(rules, [before[rule_id] for rule_id in deleted], live)
        return _Done(rules, deleted, edits, version, meant, "; ".join(warnings))

    def _edits(
        self,
        rules: Sequence[Rule],
        deleted: Sequence[str],
        configs: Mapping[str, bytes],
        before: Mapping[str, Rule],
    ) -> list[Edit]:
        """What is to be published; deletions first, so that what follows has room."""
        stood = {**self._agent.rules.configs, **{i: encode(rule) for i, rule in before.items()}}
        values: list[tuple[str, bytes | None]] = [
            *((rule_id, None) for rule_id in deleted),
            *((rule.id, encode(rule)) for rule in rules),
            *configs.items(),
        ]
        return [Edit(key, value, stood.get(key)) for key, value in values]

    def _all_meant(
        self, rules: Sequence[Rule], ended: Sequence[Rule], live: Sequence[LiveWorker]
    ) -> dict[str, list[Rule]]:
        """Whom a change is for, and which of `rules` each is to have."""
        meant: dict[str, list[Rule]] = {w: [] for rule in ended for w in self.meant(rule, live)}
        for rule in rules:
            for worker in self.meant(rule, live):
                meant.setdefault(worker, []).append(rule)
        return meant

    async def _read_to_the_end(self) -> None:
        """Know everything that stands in the topic now; raises BrokerOutage."""
        end = await self.publisher.end()
        await self._agent.board.reach(end, self._context.settings.control_timeout_s)

    def _checked(
        self,
        change: Change,
        before: Mapping[str, Rule],
        live: Sequence[LiveWorker],
        act: Act,
        epoch: int,
    ) -> tuple[list[Rule], list[str]]:
        """The rules to publish and what is to be said about them; raises Wrong."""
        settings, kinds = self._context.settings, self._known.kinds
        now = self._context.clock.now()
        beside = {i: rule for i, rule in before.items() if i not in change.delete}
        rules: list[Rule] = []
        warnings: list[str] = []
        for wanted in change.put:
            rule = rule_of(wanted, act.actor, act.reason, epoch, now, settings)
            if warning := check(rule, self._known, settings, now):
                warnings.append(warning)
            check_beside(rule, beside.values(), kinds)
            self._check_live(rule, live)
            beside[rule.id] = rule
            rules.append(rule)
        if rules and len(beside) > settings.chaos_rules_max:
            raise Wrong(
                f"no more than chaos_rules_max = {settings.chaos_rules_max} rules at a time",
                conflict=True,
            )
        return rules, warnings

    def _check_live(self, rule: Rule, live: Sequence[LiveWorker]) -> None:
        names = {worker.worker_id for worker in live}
        for worker in rule.scope.workers:
            if worker not in names:
                known = ", ".join(sorted(names))
                raise Wrong(f"no worker {worker!r} lives; these do: {known}", "$.scope.workers")
        if not self.meant(rule, live):
            kind = self._known.kinds[rule.fault]
            wanted = ", ".join(roles_of(rule, kind)) or "such a"
            raise Wrong(f"nobody would have this rule: no worker of {wanted} lives", "$.scope")

    async def _wait(self, done: _Done, act: Act, deadline: float) -> Changed:
        """Wait for those that are meant; take a change back that one of them refuses."""
        settings = self._context.settings
        left_s = max(0.0, min(settings.control_ack_wait_s, deadline - time.monotonic()))
        acked = await self.publisher.await_acks(done.version, done.meant, left_s)
        said = self.publisher.said()
        refused = refusals(done.rules, said, acked.acked)
        if refused:
            why = "; ".join(f"{worker}: {reason}" for worker, reason in refused.items())
            left = await self._take_back(done, act, refused)
            raise Problem(
                409, "rule_refused", f"A worker cannot have it: {why}.{left}", refused=refused
            )
        self._sweep_later()
        reasons = lacking(done.meant, done.deleted, said, done.version)
        return Changed(
            enabled=not reasons,
            version=done.version,
            rules=[rule_out(rule) for rule in done.rules],
            deleted=list(done.deleted),
            workers=sorted(done.meant.keys() - reasons),
            pending=sorted(reasons),
            reasons=reasons,
            warning=done.warning,
        )

    async def _take_back(self, done: _Done, act: Act, refused: Mapping[str, str]) -> str:
        """Put what was there before in the place of a change; return what is to be said of it.

        Goes on to its end when the request is called off.
        """
        task = asyncio.create_task(self._undo(done, act, refused), name="chaos take back")
        self._undoing.add(task)
        task.add_done_callback(self._undoing.discard)
        try:
            await asyncio.shield(task)
        except (BrokerOutage, DatabaseOutage, TransientDatabase) as error:
            log.warning("chaos.not_taken_back", rules=_names(done.edits), reason=error.detail)
            return " It could not be taken back elsewhere; its lease or the kill switch ends it."
        return ""

    async def _undo(self, done: _Done, act: Act, refused: Mapping[str, str]) -> None:
        async with self._lock:
            async with self._db.transaction() as tx:
                names = _names(done.edits)
                self._record(tx, act._replace(action=f"{act.action}.refused"), names, refused)
            async with self._db.transaction() as tx:
                await chaos_switch.serialise(tx)
                await self._read_to_the_end()
                if edits := undoing(done.edits, self._agent.rules.changed):
                    await self.publisher.publish_all(edits)

    def _record(self, tx: Transaction, act: Act, target: str, detail: Mapping[str, object]) -> None:
        audit_log.record(
            tx,
            actor=act.actor,
            action=act.action,
            target=target,
            reason=act.reason,
            detail=detail,
            request_id=act.request_id,
        )

    def _sweep_later(self) -> None:
        if self._agent.rules.stale() and (self._sweeping is None or self._sweeping.done()):
            self._sweeping = asyncio.create_task(self._sweep(), name="chaos sweep")

    async def _sweep(self) -> None:
        """Delete what stands in the topic and means nothing any more; for tidiness only."""
        try:
            async with (
                asyncio.timeout(SWEEP_S),
                self._lock,
                self._db.transaction() as tx,
            ):
                await chaos_switch.serialise(tx)
                await self._read_to_the_end()
                if stale := self._agent.rules.stale()[:SWEEP_MAX]:
                    await self.publisher.publish_all([(rule_id, None) for rule_id in stale])
        except Exception as error:
            log.info("chaos.not_swept", reason=f"{type(error).__name__}: {error}")


class _Done(NamedTuple):
    """A change that is published: what, in place of what, up to where, and who is meant."""

    rules: list[Rule]
    deleted: list[str]
    edits: list[Edit]
    version: int
    meant: dict[str, list[Rule]]
    warning: str


def _names(edits: Iterable[Edit]) -> str:
    """The keys of a change, as the target of an audit row."""
    return ", ".join(edit.key for edit in edits)


def _problem(error: Wrong) -> Problem:
    if error.conflict:
        return Problem(409, "rule_conflict", error.detail)
    errors = [{"field": error.pointer, "message": error.detail}]
    return Problem(422, "invalid_rule", error.detail, errors=errors)
