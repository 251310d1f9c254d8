"""Plug-in of every worker of a lab: has the published chaos rules in force, and tells their hits.

The rules come from the topic `chaos.rules`; the kill switch is looked at, and thrown, in PostgreSQL
on a connection of its own, so either works without the other, and a rule's lease without both. Hits
are counted, and told on `chaos.injected` at most once a second and rule; the telling may be lost,
the count of a worker that lives is in its metrics and its status.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import mode

from app.control.board import Board
from app.db import chaos_switch
from app.db.engine import Database
from app.errors import DatabaseOutage, TransientDatabase
from app.loops import keep_on
from app.messages import Cause, ChaosInjected
from app.messages.envelope import emit
from app.observability import metrics
from app.observability.logging import get_log
from app.topics import CHAOS_ACKS, CHAOS_INJECTED, CHAOS_RULES
from chaos.control.in_force import InForce
from chaos.faults import on_http
from chaos.faults.kinds import KINDS

if TYPE_CHECKING:
    from app.db.engine import Transaction
    from app.delivery import App
    from app.topics import TopicSpec
    from chaos.control.rule import Rule
    from chaos.faults.kinds import Kind

log = get_log(__name__)

FIRST_LOOK_S = 2.0
STOP_S = 2.0
PLACES_MAX = 200
"""Characters of a message's list of places."""


class Agent(mode.Service):
    """Runs between the worker's start and stop. `rules` is what it has in force, `topics` are those
    of the rules and of their acknowledgements."""

    def __init__(
        self,
        app: App,
        kinds: Mapping[str, Kind] = KINDS,
        topics: tuple[TopicSpec, TopicSpec] = (CHAOS_RULES, CHAOS_ACKS),
    ) -> None:
        super().__init__()
        self._app = app
        self.topics = topics
        self.rules = InForce(app, kinds, _call_later)
        self.board = Board(
            app.settings,
            topic=topics[0],
            acks=topics[1],
            apply=self.rules.apply,
            note=self.rules.note,
        )
        self._db: Database | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._untold: dict[tuple[str, int], tuple[Rule, dict[str, int]]] = {}

    async def on_start(self) -> None:
        """Look at the switch once, if PostgreSQL answers; then follow the rules."""
        settings = self._app.settings.model_copy(update={"db_pool_max": 1})
        self._db = await Database.open(
            settings, application_name=f"{settings.worker_id}-chaos-switch", observed=False
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK_S):
                await self._look(self._db)
        await self.board.on_start()
        self._tasks = [
            asyncio.create_task(keep_on(name, once, every_s), name=name)
            for name, once, every_s in (
                ("chaos switch", partial(self._look, self._db), settings.chaos_switch_poll_s),
                ("chaos hits", self._tell, settings.chaos_report_interval_s),
            )
        ]

    async def on_stop(self) -> None:
        """End every rule here; what was not told of hits is told if Kafka takes it at once."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_S)
        self.rules.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await self._tell()
        await self.board.on_stop()
        if self._db is not None:
            await self._db.close()

    async def throw(
        self, by: str, reason: str, also: Callable[[Transaction, chaos_switch.Switch], None]
    ) -> chaos_switch.Switch:
        """Throw the kill switch, with what is `also` to be written in the same transaction.

        On the switch's own connection: no fault strikes it and no other work has it.
        """
        if self._db is None:
            raise DatabaseOutage("this worker has not opened the switch's connection yet")
        async with self._db.transaction() as tx:
            switch = await chaos_switch.throw(tx, by, reason)
            also(tx, switch)
        self._switched(switch.epoch)
        return switch

    def status(self) -> dict[str, Any]:
        """What the worker's /status says of chaos rules."""
        return {
            "version": self.board.version,
            "caught_up": self.board.caught_up.is_set(),
            "epoch": self.rules.epoch,
            "rules": self.rules.note(),
        }

    async def _look(self, db: Database) -> None:
        """Do as the switch says; while PostgreSQL is away, rules end by their leases."""
        try:
            epoch = await chaos_switch.epoch(db)
        except (DatabaseOutage, TransientDatabase) as error:
            log.debug("chaos.switch_unread", reason=str(error))
            return
        if epoch > self.rules.epoch:
            self._switched(epoch)

    def _switched(self, epoch: int) -> None:
        self.rules.switch(epoch)
        self.board.renew()

    async def _tell(self) -> None:
        for rule, places in self.rules.take_hits():
            for place, struck in places.items():
                metrics.FAULTS_INJECTED.child(place, rule.fault).inc(struck)
            _, untold = self._untold.setdefault((rule.id, rule.version), (rule, {}))
            for place, struck in places.items():
                untold[place] = untold.get(place, 0) + struck
        if not self._untold:
            return
        self.board.renew()
        for key, (rule, places) in list(self._untold.items()):
            if await self._publish(rule, places):
                del self._untold[key]

    async def _publish(self, rule: Rule, places: dict[str, int]) -> bool:
        now, settings = self._app.clock.now(), self._app.settings
        body = ChaosInjected(
            rule_id=rule.id,
            fault=rule.fault,
            worker=settings.worker_id,
            place=",".join(sorted(places))[:PLACES_MAX],
            hits=sum(places.values()),
            at=now,
            rule_version=rule.version,
        )
        identity = str(uuid4())
        output = emit(
            Cause(identity, rule.id),
            CHAOS_INJECTED,
            body,
            event_id=identity,
            now=now,
            source=f"chaos/{settings.worker_id}",
        )
        assert output.key is not None
        assert output.value is not None
        return await self.board.publish(output.topic, output.key, output.value, output.headers)


def _call_later(delay_s: float, action: Any) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(delay_s, action)


def install(app: App) -> None:
    """Run an agent beside the worker's services, and show it in the worker's status."""
    agent = Agent(app)
    app.service(agent)
    on_http.install(app)
    probe = app.lifecycle.probe
    status = probe.status

    def said() -> dict[str, Any]:
        return {**status(), "chaos": agent.status()}

    probe.status = said  # type: ignore[method-assign]
    if app.role.name == "web":
        from chaos.control import web

        web.install(app, agent)
