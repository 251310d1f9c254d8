"""Changing chaos rules from a web process: checked, recorded, published, waited for.

Changes of all web workers are serialised by a lock in PostgreSQL and start from what the topic says
then. Guarantees: what is wrong in any part changes nothing; a rule that a worker refuses is taken
back; `enabled` is said only when every worker that lives and is meant said so itself; no fault
strikes its connections to PostgreSQL, and what a fault holds never has them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from secrets import randbelow, token_hex
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from app.control.publisher import Publisher
from app.db import audit_log, chaos_switch
from app.db.connection import Limits
from app.db.engine import Database
from app.db.journal import LiveWorker, live_workers
from app.errors import BrokerOutage
from app.observability.logging import get_log
from chaos.control.bodies import Changed, RuleIn, rule_out
from chaos.control.check import Known, Wrong, check, check_beside, roles_of
from chaos.control.rule import SEED_MAX, Rule, encode
from web.problems import Problem, unavailable

if TYPE_CHECKING:
    from app.control.acks import Ack
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
        limits = Limits.from_settings(context.settings, f"{context.settings.worker_id}-chaos")
        self._db = Database(limits, CONNECTIONS_MAX, observed=False)
        topic, acks = agent.topics
        self.publisher = Publisher(context.settings, topic=topic, acks=acks, clock=context.clock)

    async def close(self) -> None:
        """Let Kafka and PostgreSQL go."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait([self._sweeping])
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

    async def apply(self, change: Change, act: Act) -> Changed:
        """Do `change`; raises Problem 409, 422 or 503, then nothing was changed."""
        settings = self._context.settings
        deadline = time.monotonic() + settings.api_request_timeout_s - ANSWER_S
        await self.publisher.listen()
        try:
            async with self._lock:
                done = await self._publish(change, act)
        except Wrong as error:
            raise _problem(error) from None
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

    async def _publish(self, change: Change, act: Act) -> _Done:
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
            published: list[Rule] = []
            version = self._agent.board.version
            try:
                for rule in rules:
                    published.append(rule)
                    version = await self.publisher.publish(rule.id, encode(rule))
                    published[-1] = msgspec.structs.replace(rule, version=version)
                for rule_id in deleted:
                    version = await self.publisher.publish(rule_id, None)
                for key, value in change.configs.items():
                    version = await self.publisher.publish(key, value)
            except BrokerOutage:
                await self._take_back(published, before)
                raise
        meant = {
            w
            for rule in (*published, *(before[i] for i in deleted))
            for w in self.meant(rule, live)
        }
        return _Done(published, deleted, before, version, sorted(meant), "; ".join(warnings))

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
        beside = {i: rule for i, rule in before.items() if i not in change.delete}
        rules: list[Rule] = []
        warnings: list[str] = []
        for wanted in change.put:
            rule = self._made(wanted, act, epoch)
            if warning := check(rule, self._known, settings, self._context.clock.now()):
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

    def _made(self, wanted: RuleIn, act: Act, epoch: int) -> Rule:
        """The rule that is asked for, with what was left open filled in; raises Wrong."""
        now, settings = self._context.clock.now(), self._context.settings
        if (wanted.ttl_s is None) == (wanted.expires_at is None):
            raise Wrong("a rule needs a lease: either ttlS or expiresAt", "$.ttlS")
        if wanted.expires_at is not None:
            expires_at = wanted.expires_at
            ttl_s = max((expires_at - now).total_seconds(), 1e-3)
        else:
            assert wanted.ttl_s is not None
            expires_at, ttl_s = now + timedelta(seconds=wanted.ttl_s), wanted.ttl_s
        return Rule(
            id=wanted.id or f"{wanted.fault}-{token_hex(4)}",
            fault=wanted.fault,
            scope=wanted.scope,
            p=wanted.p,
            nth=wanted.nth,
            times=wanted.times,
            params=wanted.params,
            seed=randbelow(SEED_MAX) if wanted.seed is None else wanted.seed,
            ttl_s=ttl_s,
            expires_at=expires_at,
            owner=wanted.owner or act.actor,
            reason=wanted.reason or act.reason,
            share_max=settings.chaos_share_max if wanted.share_max is None else wanted.share_max,
            unsafe=wanted.unsafe,
            epoch=epoch,
        )

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
        """Wait for those that are meant; take a refused rule back."""
        settings = self._context.settings
        left_s = max(0.0, min(settings.control_ack_wait_s, deadline - time.monotonic()))
        acked = await self.publisher.await_acks(done.version, done.meant, left_s)
        refused = refusals(done.rules, self.publisher.heard(), acked.acked)
        if refused:
            with contextlib.suppress(BrokerOutage):
                async with self._lock:
                    await self._take_back(done.rules, done.before)
            async with self._db.transaction() as tx:
                names = ", ".join(rule.id for rule in done.rules)
                self._record(tx, act._replace(action=f"{act.action}.refused"), names, refused)
            said = "; ".join(f"{worker}: {why}" for worker, why in refused.items())
            raise Problem(409, "rule_refused", f"A worker cannot have it: {said}.", refused=refused)
        self._sweep_later()
        return Changed(
            enabled=acked.complete,
            version=done.version,
            rules=[rule_out(rule) for rule in done.rules],
            deleted=list(done.deleted),
            workers=list(acked.acked),
            pending=list(acked.pending),
            warning=done.warning,
        )

    async def _take_back(self, rules: Sequence[Rule], before: Mapping[str, Rule]) -> None:
        """Put what was there before in the place of `rules`, as far as Kafka is there."""
        for rule in rules:
            old = before.get(rule.id)
            with contextlib.suppress(BrokerOutage):
                await self.publisher.publish(rule.id, None if old is None else encode(old))

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
                for rule_id in self._agent.rules.stale()[:SWEEP_MAX]:
                    await self.publisher.publish(rule_id, None)
        except Exception as error:
            log.info("chaos.not_swept", reason=f"{type(error).__name__}: {error}")


class _Done(NamedTuple):
    """A change that is published: what, in place of what, up to where, and who is meant."""

    rules: list[Rule]
    deleted: list[str]
    before: Mapping[str, Rule]
    version: int
    meant: list[str]
    warning: str


def refusals(
    rules: Iterable[Rule], heard: Mapping[str, Ack], workers: Iterable[str]
) -> dict[str, str]:
    """Why each of `workers` refused one of `rules`, by worker."""
    ids = [rule.id for rule in rules]
    return {
        worker: heard[worker].refused[rule_id]
        for worker in workers
        for rule_id in ids
        if worker in heard and rule_id in heard[worker].refused
    }


def _problem(error: Wrong) -> Problem:
    if error.conflict:
        return Problem(409, "rule_conflict", error.detail)
    errors = [{"field": error.pointer, "message": error.detail}]
    return Problem(422, "invalid_rule", error.detail, errors=errors)
