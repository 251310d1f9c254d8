"""The faust.App subclass: our transport, the rebalance hooks, and what a role's code may use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import faust
from faust.app.base import BootStrategy
from faust.transport.drivers import aiokafka as driver

from app.clock import Clock, SystemClock
from app.db.engine import Database
from app.delivery.consumer import Consumer
from app.delivery.flood import FloodBook
from app.delivery.killer import KillerJournal, run_id
from app.delivery.lifecycle import Lifecycle
from app.delivery.outputs import BatchProducer
from app.delivery.producer import MAX_REQUEST_BYTES, Producer
from app.delivery.table_store import SCHEME
from app.observability import metrics
from app.roles import Role
from app.settings import Settings
from app.taps import Taps
from app.topics import FETCH_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from app.delivery.agent import StepRunner


_STORES = {"rocksdb": SCHEME, "memory": "memory"}


class Transport(driver.Transport):
    """Names our consumer and producer to Faust."""

    Consumer = Consumer
    Producer = Producer


class App(faust.App):
    """One role of the platform.

    `web_extensions` are what plug-ins add to the web role's application, `taps` where they stand
    between the worker and its servers. `settings`, `db` and `clock` are for the role's code. `db`
    is opened by the worker before Faust starts; the role's agents are declared with
    `app.delivery.consume`.
    """

    consumer: Consumer
    db: Database
    killer: KillerJournal

    def __init__(self, settings: Settings, role: Role) -> None:
        self.settings = settings
        self.role = role
        self.clock: Clock = SystemClock()
        self.taps = Taps()
        self.batch_topics: set[str] = set()
        self.runners: list[StepRunner] = []
        self.floods = FloodBook(self)
        self.web_extensions: list[Callable[[web.Application], None]] = []
        self.lifecycle = Lifecycle(self)
        self._rebalance_began_s: float | None = None
        super().__init__(f"{settings.namespace}-{role.name}", **_faust_settings(settings))
        self.boot_strategy = BootStrategy(
            self,
            enable_kafka_consumer=role.consumes,
            enable_kafka_producer=role.produces,
            enable_web=False,
        )

    @property
    def consumes(self) -> bool:
        """Whether this role is a member of a consumer group."""
        return self.role.consumes

    @property
    def batch_producer(self) -> BatchProducer:
        """The running aiokafka producer; every acknowledgement must be awaited."""
        producer: BatchProducer = self.producer._producer
        return producer

    async def lease(self) -> None:
        """W5 of the consumer."""
        if self._consumer is not None:
            await self.consumer.lease()

    async def on_first_start(self) -> None:
        """Extends App.on_first_start, which makes only the last directory of its path."""
        self.conf.datadir.mkdir(parents=True, exist_ok=True)
        await super().on_first_start()

    async def on_start(self) -> None:
        """Extends App.on_start: servers are reachable before any Faust service starts."""
        await self.lifecycle.before()
        await super().on_start()

    async def on_started(self) -> None:
        """Extends App.on_started: everything runs."""
        await super().on_started()
        await self.lifecycle.after_start()

    async def on_shutdown(self) -> None:
        """Extends App.on_shutdown: every Faust service has stopped."""
        await super().on_shutdown()
        await self.lifecycle.after_stop()

    def on_epoch(self) -> None:
        """A new assignment is recovered and readable; runs on the main loop."""
        metrics.REBALANCES.child(self.role.name, "assigned").inc()
        if self._rebalance_began_s is not None:
            lasted_s = self.clock.monotonic() - self._rebalance_began_s
            metrics.REBALANCE_SECONDS.child(self.role.name).observe(lasted_s)
            self._rebalance_began_s = None

    def _new_transport(self) -> Any:
        """Replaces App._new_transport: the consumer of this package."""
        return Transport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> Any:
        """Replaces App._new_producer_transport: the producer of this package."""
        return Transport(self.conf.broker_producer, self)

    def on_rebalance_start(self) -> None:
        """Extends App.on_rebalance_start (consumer thread): nothing may begin from now on."""
        self.consumer.released = False
        if self._rebalance_began_s is None:
            self._rebalance_began_s = self.clock.monotonic()
        super().on_rebalance_start()

    def on_rebalance_end(self) -> None:
        """Extends App.on_rebalance_end: recovery, seek and flow control are done."""
        super().on_rebalance_end()
        self.consumer.release()

    async def _stop_consumer(self) -> None:
        """Extends App._stop_consumer: drain and commit before Faust waits for its own acks."""
        if self._consumer is not None and self._consumer.positions.next:
            await self._consumer.quiesce()
        await super()._stop_consumer()


def _faust_settings(settings: Settings) -> dict[str, Any]:
    """Faust's names for our settings; Faust reads no environment of its own (env_prefix)."""
    brokers = [f"kafka://{address}" for address in settings.broker_bootstrap.split(",")]
    return {
        "env_prefix": "SYMPHONY_FAUST_UNUSED_",
        "broker": brokers,
        "store": f"{_STORES[settings.table_store]}://",
        "datadir": f"{settings.data_dir}/{settings.worker_id}",
        "key_serializer": "raw",
        "value_serializer": "raw",
        "topic_partitions": settings.topic_partitions,
        "topic_replication_factor": settings.topic_replicas,
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "table_standby_replicas": 0,
        "web_enabled": False,
        "broker_client_id": run_id(settings),
        "broker_session_timeout": float(settings.session_timeout_s),
        "broker_heartbeat_interval": float(settings.heartbeat_interval_s),
        "broker_rebalance_timeout": float(settings.rebalance_timeout_s),
        "broker_request_timeout": float(settings.request_timeout_s),
        "broker_commit_interval": float(settings.commit_interval_s),
        "broker_commit_every": settings.commit_every_records,
        "broker_max_poll_records": settings.max_batch_records,
        "consumer_max_fetch_size": FETCH_BYTES_MAX,
        "consumer_metadata_max_age_ms": int(settings.metadata_max_age_s * 1000),
        "producer_request_timeout": float(settings.producer_request_timeout_s),
        "producer_max_batch_size": MAX_REQUEST_BYTES,
        "producer_max_request_size": MAX_REQUEST_BYTES,
        "producer_linger": 0.0,
        "worker_redirect_stdouts": False,
    }
