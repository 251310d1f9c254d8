"""The canary's control in role web: changes its share, knows who has it in force, and judges it.

Every web worker follows the configuration and the acknowledgements; the one that holds an advisory
lock of PostgreSQL in a round acts in it. Whatever a judgement rests on is read anew from
PostgreSQL, so it does not matter which worker that is, nor whether it is a new one each time: role
web because it alone has both the payments of every partition and a publisher of control topics.
Whoever publishes holds that lock, and the judge reads the topic to its end under it: it never acts
on a configuration that an operator or another judge has changed meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import mode
import msgspec

from app.control.canary import KEY, ROLE, CanaryConfig, Split, board, encode
from app.control.publisher import Acked, Publisher
from app.db import audit_log, canary
from app.domain.canary import ArmFigures, Decision, Judgement, Margins, Verdict, decide, judge
from app.errors import SymphonyError
from app.observability.logging import get_log
from app.topics import CANARY_ACKS, CANARY_CONFIG

if TYPE_CHECKING:
    from app.db.engine import Database, Transaction
    from app.settings import Settings
    from web.context import Context

log = get_log(__name__)

ACTOR = "auto-canary"
TARGET = "canary.payment"
ORCHESTRATOR = "orchestrator"


class Comparison(NamedTuple):
    """Both arms over one window, and what it says of the canary."""

    since: datetime
    until: datetime
    stable: ArmFigures
    canary: ArmFigures
    judgement: Judgement


class Standing(NamedTuple):
    """The configuration as published, and which orchestrators have it in force."""

    config: CanaryConfig | None
    version: int
    acked: tuple[str, ...]
    pending: tuple[str, ...]
    workers: tuple[str, ...]


class CanaryControl(mode.Service):
    """Started and stopped with the web server; works as soon as Kafka answers.

    `make_context` is called at the start, when the database is open.
    """

    def __init__(self, make_context: Callable[[], Context]) -> None:
        super().__init__()
        self._make_context = make_context
        self._split = Split()
        self._judged: dict[tuple[int, int], Comparison] = {}

    async def on_start(self) -> None:
        """Follow configuration and acknowledgements; does not wait for Kafka."""
        context = self._make_context()
        self._settings: Settings = context.settings
        self._db: Database = context.db
        self._clock = context.clock
        self._board = board(context.settings, self._split, context.clock)
        self._publisher = Publisher(
            context.settings, topic=CANARY_CONFIG, acks=CANARY_ACKS, clock=context.clock
        )
        await self._board.start()
        await self._publisher.listen()
        self.add_future(self._judge_forever())

    async def on_stop(self) -> None:
        """Let Kafka go."""
        await self._board.stop()
        await self._publisher.close()

    @property
    def known(self) -> bool:
        """Whether the configuration has been read since the start."""
        return self._board.caught_up.is_set()

    def standing(self) -> Standing:
        """Return the configuration and who has it in force, as heard of lately."""
        version = self._split.version
        orchestrators = self.live(ORCHESTRATOR)
        heard = self._publisher.heard()
        acked = tuple(one for one in orchestrators if heard[one].version >= version)
        pending = tuple(one for one in orchestrators if one not in acked)
        return Standing(self._split.config, version, acked, pending, self.live(ROLE))

    def live(self, role: str) -> tuple[str, ...]:
        """The workers of a role that were heard of lately."""
        heard = self._publisher.heard()
        return tuple(sorted(name for name, ack in heard.items() if ack.role == role))

    async def change(self, config: CanaryConfig, *, action: str, request_id: str = "") -> Standing:
        """Publish `config`, record it, and wait a bounded time for the orchestrators.

        Recorded before it is published, so that nothing goes unrecorded; a second row says when
        that failed. Waits for a judgement under way. Raises BrokerOutage, DatabaseOutage or
        TransientDatabase; then it may have happened nevertheless.
        """
        async with self._db.transaction() as tx:
            _record(tx, config, action, {}, request_id)
            await tx.commit()
        try:
            async with self._db.transaction() as tx:
                await canary.serialise(tx)
                version = await self._publish(config)
        except SymphonyError:
            async with self._db.transaction() as tx:
                _record(tx, config, f"{action}_failed", {}, request_id)
                await tx.commit()
            raise
        acked = await self._in_force(version)
        return Standing(config, version, acked.acked, acked.pending, self.live(ROLE))

    async def compare(self, since: datetime, until: datetime, reader: Any = None) -> Comparison:
        """Compare both arms over the charges that were taken up in [since, until)."""
        settings, where = self._settings, reader or self._db
        stable, other = [
            await canary.figures(where, arm, since, until, settings.canary_samples_max)
            for arm in ("stable", "canary")
        ]
        return Comparison(since, until, stable, other, judge(stable, other, margins(settings)))

    async def _publish(self, config: CanaryConfig) -> int:
        return await self._publisher.publish(KEY, encode(config))

    async def _in_force(self, version: int) -> Acked:
        wait_s = self._settings.control_ack_wait_s
        return await self._publisher.await_acks(version, self.live(ORCHESTRATOR), wait_s)

    async def _judge_forever(self) -> None:
        while not self.should_stop:
            await self.sleep(self._settings.canary_interval_s)
            try:
                await self._publisher.listen()
                await self._judge_once()
            except asyncio.CancelledError:
                raise
            except SymphonyError as error:
                log.warning("canary.not_judged", reason=str(error))
            except Exception as error:
                log.error("canary.not_judged", error=error)

    async def _judge_once(self) -> None:
        """Decide on the complete windows since the last change, unless another worker does."""
        config, version = self._split.config, self._split.version
        if config is None or not config.percent or not config.auto or config.promoted:
            self._judged.clear()
            return
        async with self._db.transaction() as tx:
            if not await canary.lead(tx):
                return
            await self._read_to_the_end()
            if self._split.version != version:
                return
            if self.live(ORCHESTRATOR) and not self.live(ROLE) and self._old_enough(config):
                await self._act(
                    tx, config, Decision.ROLL_BACK, (), "no payment-canary worker lives"
                )
                return
            compared = await self._windows(tx, config, version)
            decision = decide(
                [one.judgement.verdict for one in compared],
                rollback_windows=self._settings.canary_rollback_windows,
                promote_windows=self._settings.canary_promote_windows,
            )
            if decision is not Decision.WAIT:
                why = "; ".join(compared[0].judgement.reasons)
                await self._act(tx, config, decision, compared, why)

    async def _read_to_the_end(self) -> None:
        """Know the configuration that stands in the topic now; raises BrokerOutage."""
        end = await self._publisher.end()
        await self._board.reach(end, self._settings.control_timeout_s)

    def _old_enough(self, config: CanaryConfig) -> bool:
        """A worker that is just restarting is not missed."""
        return self._clock.now() - config.since > timedelta(seconds=self._settings.canary_window_s)

    async def _windows(
        self, tx: Transaction, config: CanaryConfig, version: int
    ) -> list[Comparison]:
        """The complete windows since the configuration, newest first, as far as they matter."""
        settings = self._settings
        window = timedelta(seconds=settings.canary_window_s)
        complete = int((self._clock.now() - config.since) / window)
        wanted = max(settings.canary_rollback_windows, settings.canary_promote_windows)
        found: list[Comparison] = []
        for number in range(complete - 1, max(-1, complete - 1 - wanted), -1):
            place = (version, number)
            if place not in self._judged:
                since = config.since + number * window
                self._judged[place] = await self.compare(since, since + window, tx)
            found.append(self._judged[place])
            if found[-1].judgement.verdict is not found[0].judgement.verdict:
                break
            if found[-1].judgement.verdict is Verdict.INSUFFICIENT:
                break
        return found

    async def _act(
        self,
        tx: Transaction,
        config: CanaryConfig,
        decision: Decision,
        compared: Sequence[Comparison],
        why: str,
    ) -> None:
        """Publish what was decided, and record it with the figures that decided."""
        back = decision is Decision.ROLL_BACK
        full = self._settings.canary_promotion == "full"
        changed = CanaryConfig(
            percent=0 if back else 100 if full else config.percent,
            auto=config.auto,
            by=ACTOR,
            since=self._clock.now(),
            reason=f"{'rolled back' if back else 'promoted'}: {why}",
            promoted=not back,
        )
        version = await self._publish(changed)
        detail = {"from": config.percent, "windows": [told(one) for one in compared]}
        _record(tx, changed, "canary.roll_back" if back else "canary.promote", detail, "")
        await tx.commit()
        self._judged.clear()
        log.warning("canary.decided", decision=decision.value, reason=why, version=version)


def margins(settings: Settings) -> Margins:
    """Return how much worse the canary may be."""
    return Margins(
        samples_min=settings.canary_samples_min,
        error_margin=settings.canary_error_margin,
        decline_margin=settings.canary_decline_margin,
        p95_factor=settings.canary_p95_factor,
        p95_margin_ms=settings.canary_p95_margin_ms,
    )


def told(one: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON."""
    return {
        "since": one.since.isoformat(),
        "until": one.until.isoformat(),
        "verdict": one.judgement.verdict.value,
        "reasons": list(one.judgement.reasons),
        "stable": one.stable._asdict(),
        "canary": one.canary._asdict(),
    }


def _record(
    tx: Transaction, config: CanaryConfig, action: str, detail: dict[str, Any], request_id: str
) -> None:
    said = msgspec.to_builtins(config)
    audit_log.record(
        tx,
        actor=config.by,
        action=action,
        target=TARGET,
        reason=config.reason,
        detail={"config": said, **detail},
        request_id=request_id,
    )
