"""What surrounds the Faust application of a worker: health port, database, broker, watchdog.

Start-up waits for PostgreSQL and the broker as long as it must and says so on /readyz: a worker
that exits while its broker is down only keeps the supervisor busy.
"""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from app.db.engine import Database
from app.db.journal import see_run
from app.delivery import exits
from app.delivery.killer import close_run, open_run, run_id
from app.delivery.reporting import REPORT_S
from app.delivery.rewind import Rewinder
from app.delivery.table_report import TableReport
from app.delivery.watchdog import Watchdog
from app.errors import DatabaseOutage, TransientDatabase
from app.failpoints import failpoint
from app.garbage import collect_rarely
from app.loops import keep_on
from app.observability.health import HealthServer, Verdict
from app.observability.logging import get_log
from app.taps import exempt

if TYPE_CHECKING:
    from app.delivery.app import App

log = get_log(__name__)

LOOK_S = 0.2
SAY_S = 5.0
DATABASE_LOOK_S = 2.0


class WorkerProbe:
    """What this worker says about itself on the health port."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.waiting_for = "start"

    def live(self) -> Verdict:
        """The watchdog ends a worker that is not live, so one that answers is."""
        return Verdict(True)

    def ready(self) -> Verdict:
        """Joined, recovered and reading; without a consumer: started."""
        if self.waiting_for:
            return Verdict(False, f"waiting for {self.waiting_for}")
        app = self._app
        if app.consumes and (app._consumer is None or not app.consumer.released):
            return Verdict(False, "joining the consumer group or recovering tables")
        for runner in app.runners:
            if runner.step.flood.stopped:
                return Verdict(False, _flooded(runner.spec.name, runner.step.flood.stopped))
        return Verdict(True)

    def status(self) -> dict[str, Any]:
        """Consumers with batch state and positions, lease and epoch."""
        app, settings = self._app, self._app.settings
        said: dict[str, Any] = {
            "role": app.role.name,
            "worker_id": settings.worker_id,
            "incarnation": settings.incarnation,
            "waiting_for": self.waiting_for,
            "ready": self.ready().ok,
        }
        if app.consumes and app._consumer is not None and app.consumer.started:
            consumer = app.consumer
            said["consumers"] = [runner.reporter.status() for runner in app.runners]
            said["epoch"] = consumer.epoch
            said["generation"] = consumer.generation
            said["lease_age_s"] = round(consumer.lease_age_s(), 3)
            said["guard"] = dict(consumer.positions.stat)
        return said


def _flooded(consumer: str, why: str) -> str:
    return (
        f"consumer {consumer} is stopped by a flood of dead letters ({why});"
        f" when the cause is mended: symphony dlq release {consumer}"
    )


class Lifecycle:
    """Starts before Faust's services and stops after them."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.probe = WorkerProbe(app)
        self._health = HealthServer(app.settings, self.probe)
        self._watchdog = Watchdog(app) if app.consumes else None
        self._rewinds: asyncio.Task[None] | None = None
        self._alive: asyncio.Task[None] | None = None
        self._tables: asyncio.Task[None] | None = None

    async def before(self) -> None:
        """Marker, health port, PostgreSQL, broker and topics; a queued rewind is carried out before
        anything is joined; then the run is registered."""
        app, settings = self._app, self._app.settings
        data_dir = Path(settings.data_dir)
        exits.configure(data_dir, settings.worker_id, settings.incarnation)
        await self._health.start()
        self._wait("PostgreSQL")
        app.db = await Database.open(settings, application_name=settings.worker_id, taps=app.taps)
        while not await self._database_answers():
            await asyncio.sleep(LOOK_S)
        if app.consumes or app.role.produces:
            self._wait("the Kafka broker")
            await self._broker_answers()
        await failpoint("worker.before_start")
        rewinder = Rewinder(app, self._wait)
        if app.consumes:
            await rewinder.before_joining()
        while not await self._registered(data_dir):
            await asyncio.sleep(LOOK_S)
        if app.consumes:
            self._rewinds = asyncio.create_task(rewinder.watch(), name="rewinds")
        self._alive = asyncio.create_task(self._say_alive(), name="signs of life")
        if app.role.tables:
            self._tables = asyncio.create_task(self._report_tables(), name="table gauges")
        self.probe.waiting_for = ""
        # From here on, not from App.on_started: that waits for the first recovery to end.
        if self._watchdog is not None:
            self._watchdog.start()

    async def after_start(self) -> None:
        """Faust's services run: take the start-up's objects out of collection."""
        gc.collect()
        gc.freeze()
        collect_rarely()

    async def after_stop(self) -> None:
        """Faust's services have stopped in good order."""
        if self._watchdog is not None:
            self._watchdog.close()
        for task in (self._rewinds, self._tables):
            if task is not None:
                task.cancel()
        exits.leave_reason(exits.stop_reason(), "stopped in good order")
        await failpoint("worker.before_stop")
        if self._alive is not None:
            self._alive.cancel()
        if not self.probe.waiting_for:
            try:
                await close_run(self._app)
            except (DatabaseOutage, TransientDatabase) as error:
                log.warning("worker.run_left_open", reason=str(error))
        if hasattr(self._app, "db"):
            await self._app.db.close()
        await self._health.stop()

    async def _say_alive(self) -> None:
        """Let others see that this worker lives; whoever changes running workers asks."""
        await keep_on("signs of life", self._see_run, self._app.settings.worker_seen_interval_s)

    async def _see_run(self) -> None:
        try:
            with exempt():
                await see_run(self._app.db, run_id(self._app.settings))
        except (DatabaseOutage, TransientDatabase) as error:
            log.debug("worker.not_seen", reason=str(error))

    async def _report_tables(self) -> None:
        report = TableReport(self._app)

        async def refresh() -> None:
            report.refresh()

        await keep_on("table gauges", refresh, REPORT_S)

    def _wait(self, what: str) -> None:
        self.probe.waiting_for = what
        log.info("worker.waiting", waiting_for=what)

    async def _database_answers(self) -> bool:
        try:
            await self._app.db.wait_ready(DATABASE_LOOK_S)
        except (DatabaseOutage, TransientDatabase, TimeoutError) as error:
            log.warning("worker.waiting", waiting_for="PostgreSQL", reason=str(error))
            return False
        return True

    async def _registered(self, data_dir: Path) -> bool:
        """A database that is slow or gone again is waited for, as before."""
        try:
            await open_run(self._app, data_dir)
        except (DatabaseOutage, TransientDatabase) as error:
            self.probe.waiting_for = "PostgreSQL"
            log.warning("worker.waiting", waiting_for="PostgreSQL", reason=str(error))
            return False
        return True

    async def _broker_answers(self) -> None:
        said_at = 0.0
        while (why := await self._broker_trouble()) is not None:
            if monotonic() - said_at > SAY_S:
                log.warning("worker.waiting", waiting_for="the Kafka broker", reason=why)
                said_at = monotonic()
            await asyncio.sleep(LOOK_S)

    async def _broker_trouble(self) -> str | None:
        """Why work cannot start: no broker, or a topic missing or of another partition count."""
        app, settings = self._app, self._app.settings
        client = AIOKafkaClient(
            bootstrap_servers=settings.broker_bootstrap, client_id=f"{settings.worker_id}-look"
        )
        try:
            await client.bootstrap()
            cluster = await client.fetch_all_metadata()
            for topic in sorted(app.batch_topics | set(app.tables.changelog_topics)):
                count = len(cluster.partitions_for_topic(topic) or ())
                if not count:
                    return f"topic {topic} does not exist: run `symphony topics apply`"
                if count != settings.topic_partitions:
                    return (
                        f"topic {topic} has {count} partitions, the setting topic_partitions says"
                        f" {settings.topic_partitions}: fix the setting, a topic cannot be resized"
                    )
        except KafkaError as error:
            return f"{type(error).__name__}: {error}"
        finally:
            await client.close()
        return None
