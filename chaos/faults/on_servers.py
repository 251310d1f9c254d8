"""Faults between a worker and its servers: pause, db_latency, db_error."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from app.errors import DatabaseOutage, TransientDatabase
from chaos.faults.kind import Base, Between, P, within

if TYPE_CHECKING:
    from app.delivery import App
    from chaos.control.hits import Hits
    from chaos.control.rule import Rule

STATEMENT_HOLD_MAX_MS = 3_000
"""Below the time after which PostgreSQL ends an idle transaction."""
PLACE = "postgresql"


class PauseParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`max_s`: it ends by itself then; below the broker's patience with a silent consumer."""

    max_s: Annotated[float, Meta(gt=0, le=900)] = 300.0


class Pause(Base[PauseParams]):
    """The consumer does not poll: its partitions stay assigned, nothing of them is read."""

    params = PauseParams
    _timer: asyncio.TimerHandle | None = None

    def _attach(self) -> None:
        mine = self.app.batch_topics
        named = self.rule.scope.topics & mine if self.rule.scope.topics else mine
        topics = [
            topic for topic in sorted(named) if self.hits.strikes(topic, self.worker, place=topic)
        ]
        self.app.taps.pause(self, topics)
        self._timer = asyncio.get_running_loop().call_later(self.p.max_s, self.stop)

    def _detach(self) -> None:
        self.app.taps.resume(self)
        if self._timer is not None:
            self._timer.cancel()


class _Statements(Base[P]):
    """Stands before each round trip to PostgreSQL; each is decided by its number."""

    def __init__(self, rule: Rule, hits: Hits, app: App) -> None:
        super().__init__(rule, hits, app)
        self._number = 0

    def _attach(self) -> None:
        self.app.taps.statements = (*self.app.taps.statements, self._ask)

    def _detach(self) -> None:
        taps = self.app.taps
        taps.statements = tuple(hook for hook in taps.statements if hook != self._ask)

    async def _ask(self) -> None:
        self._number += 1
        if self.hits.strikes(key=self.worker, attempt=self._number, place=PLACE):
            await self._strike()

    async def _strike(self) -> None:
        raise NotImplementedError


class StatementLatency(Between, frozen=True):
    """Between two bounds, in milliseconds."""

    min_ms: float = 20.0
    max_ms: float = 200.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_ms > STATEMENT_HOLD_MAX_MS:
            raise ValueError(f"max_ms may be {STATEMENT_HOLD_MAX_MS} at most")


class DbLatency(_Statements[StatementLatency]):
    """PostgreSQL answers late."""

    params = StatementLatency

    async def _strike(self) -> None:
        luck = self.hits.luck(PLACE, b"", self._number)
        await self.hold(within(self.p.min_ms, self.p.max_ms, luck))


class DbErrorParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`code`: the server is away, or it rolls back for a conflict."""

    code: Literal["database_outage", "database_transient"] = "database_outage"


class DbError(_Statements[DbErrorParams]):
    """PostgreSQL fails: work is held or repeated, and is never the event's failure."""

    params = DbErrorParams

    async def _strike(self) -> None:
        cls = DatabaseOutage if self.p.code == DatabaseOutage.code else TransientDatabase
        raise cls(f"injected by {self.rule.id}")
