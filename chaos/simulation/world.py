"""One simulated world: loop, servers, processes, and the trace of what happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import blake2b
from random import Random
from typing import TYPE_CHECKING, Any, NoReturn

from app.db.connection import Limits
from app.settings import Settings
from chaos.gateway_sim.provider import Behaviour
from chaos.simulation.database import Server
from chaos.simulation.faults import Faults
from chaos.simulation.gateway import Gateway
from chaos.simulation.log import Log
from chaos.simulation.loop import VirtualLoop

if TYPE_CHECKING:
    import asyncio

    from app.delivery.exits import Reason
    from chaos.simulation.fleet import Fleet
    from chaos.simulation.group import Group
    from chaos.simulation.plan import Plan

START = datetime(2026, 1, 1, tzinfo=UTC)
PARTITIONS = 2

_DELAYS_S = {
    "database": (0.0005, 0.003),
    "log": (0.0005, 0.006),
    "gateway": (0.002, 0.03),
    "start": (0.05, 0.5),
}
"""Least and greatest time of one way, by what is reached."""

SETTINGS: dict[str, Any] = {
    "lab": True,
    "topic_partitions": PARTITIONS,
    "table_store": "memory",
    "outage_budget_s": 60,
    "producer_request_timeout_s": 70,
    "step_deadline_s": 3,
    "redrives_max": 1,
    "compensation_attempts_max": 2,
    "saga_idle_redrive_s": 20,
    "retry_tiers_s": "1,5",
    "retry_attempts_max": 3,
    "tick_interval_s": 1,
    "table_entry_retention_s": 60,
    "relay_poll_ms": 1000,
    "relay_lease_ttl_s": 12,
    "relay_lease_renew_s": 5,
    "breaker_open_s": 2,
}
"""The product's defaults, with deadlines short enough for a story of a minute."""


@cache
def _base() -> Settings:
    return Settings(**SETTINGS)


class WorldClock:
    """`app.clock.Clock` on virtual time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now(self) -> datetime:
        """Return the virtual time of day."""
        return START + timedelta(seconds=self._loop.time())

    def monotonic(self) -> float:
        """Return virtual seconds."""
        return self._loop.time()


class World:
    """Everything of one run; made by `chaos.simulation.run`."""

    fleet: Fleet

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.settings = _base()
        self.loop = VirtualLoop(plan.seed)
        self.clock = WorldClock(self.loop)
        self.trace: list[tuple[Any, ...]] = []
        self.faults = Faults(self, plan)
        self.database = Server(self.loop, self.clock.now)
        self.db_limits = Limits("", "simulation", 5.0, 5.0, 3.0)
        self.log = Log(self, PARTITIONS)
        self.gateway = Gateway(self, Behaviour(seed=plan.seed, latency_ms_max=20.0))
        self.groups: dict[str, Group] = {}
        self.violations: list[str] = []
        self._delays = Random(plan.seed * 31 + 7).random

    def settings_of(self, role: str, worker_id: str, incarnation: str) -> Settings:
        """The settings of one worker."""
        return self.settings.model_copy(
            update={"role": role, "worker_id": worker_id, "incarnation": incarnation}
        )

    def note(self, kind: str, *facts: Any) -> None:
        """Add a line to the trace."""
        self.trace.append((self.loop.time(), kind, *facts))

    def end_process(self, reason: Reason, why: str) -> NoReturn:
        """The running process ends itself."""
        self.fleet.end_process(reason, why)

    def wake_all(self) -> None:
        """Whoever waits for records looks again."""
        for listeners in self.log.listeners.values():
            for listener in listeners:
                listener()

    def delay(self, what: str) -> float:
        """How long one way takes, in seconds."""
        least, most = _DELAYS_S[what]
        delay_s = least + (most - least) * self._delays()
        return delay_s * 100 if what != "start" and self.faults.slows() else delay_s

    def travel(self, what: str) -> asyncio.Future[None]:
        """Return a future that is done when one way's time has passed."""
        return self.loop.pause(self.delay(what))

    def trace_hash(self) -> str:
        """The fingerprint of the trace: equal for equal runs."""
        digest = blake2b(digest_size=12)
        for line in self.trace:
            digest.update(repr(line).encode())
        return digest.hexdigest()
