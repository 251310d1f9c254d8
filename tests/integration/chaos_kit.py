"""Workers of a test that have chaos rules, and the API that changes them, in one process."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from app.clock import SystemClock
from app.db import journal
from app.db.engine import Database
from app.roles import ROLES
from app.settings import Settings, load_settings
from app.taps import Taps
from app.topics import CHAOS_ACKS, CHAOS_INJECTED, CHAOS_RULES, ORDER_CREATED, TopicSpec
from chaos.control import web as chaos_web
from chaos.control.agent import Agent
from chaos.faults import on_http
from tests.integration.api_client import Client
from web.application import build
from web.context import Context

Topics = tuple[TopicSpec, TopicSpec]
LEASE = {"ttlS": 600, "reason": "test"}


async def make_topics(bootstrap: str) -> Topics:
    """Topics of rules and acknowledgements of one test alone, those of hits and new orders."""
    name = f"chaos-{uuid.uuid4().hex[:8]}"
    rules, acks = CHAOS_RULES._replace(name=name), CHAOS_ACKS._replace(name=f"{name}.acks")
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics(
            [
                NewTopic(spec.name, spec.partition_count(4), 1, topic_configs=spec.config())
                for spec in (rules, acks, CHAOS_INJECTED, ORDER_CREATED)
            ]
        )
    finally:
        await admin.close()
    return rules, acks


class FakeApp:
    """What an agent and the faults at the API use of a worker."""

    def __init__(self, settings: Settings, role: str) -> None:
        self.settings = settings
        self.role = ROLES[role]
        self.clock = SystemClock()
        self.taps = Taps()
        self.batch_topics: set[str] = set()
        self.web_extensions: list[Any] = []


class Stage:
    """A web worker with the API, and workers of other roles, over one broker and database."""

    def __init__(self, bootstrap: str, dsn: str, topics: Topics) -> None:
        self._bootstrap, self._dsn, self._topics = bootstrap, dsn, topics
        self._stack = AsyncExitStack()
        self.apps: dict[str, Any] = {}
        self.agents: dict[str, Agent] = {}
        self.client: Client
        self.db: Database

    def settings(self, role: str, worker: str) -> Settings:
        """Generous deadlines: the machine of a test is slow."""
        return load_settings(
            role=role,
            worker_id=worker,
            incarnation=uuid.uuid4().hex[:8],
            broker_bootstrap=self._bootstrap,
            postgres_dsn=self._dsn,
            lab=True,
            db_pool_max=4,
            control_timeout_s=10.0,
            control_ack_wait_s=15.0,
            api_request_timeout_s=30.0,
            control_heartbeat_s=1.0,
            chaos_switch_poll_s=0.1,
            chaos_report_interval_s=0.2,
        )

    async def open(self) -> None:
        """Start the API and its worker web-1."""
        app = cast(Any, FakeApp(self.settings("web", "web-1"), "web"))
        settings = app.settings
        self.db = await Database.open(settings, application_name="chaos-test", taps=app.taps)
        self._stack.push_async_callback(self.db.close)
        agent = await self.start("web", "web-1", app)
        on_http.install(app)
        chaos_web.install(app, agent)
        application: web.Application = build(Context(settings, self.db), app.web_extensions)
        self.client = TestClient(TestServer(application))
        await self._stack.enter_async_context(self.client)

    async def start(self, role: str, worker: str, app: Any = None) -> Agent:
        """Start a worker: its run is registered and it follows the rules."""
        app = app or cast(Any, FakeApp(self.settings(role, worker), role))
        run = f"{worker}.{app.settings.incarnation}"
        async with self.db.transaction() as tx:
            await journal.start_run(tx, role, worker, run)
        agent = Agent(app, topics=self._topics)
        await agent.on_start()
        self._stack.push_async_callback(agent.on_stop)
        self.apps[worker], self.agents[worker] = app, agent
        return agent

    def change(self, worker: str, **values: Any) -> None:
        """Change settings of a running worker, which nothing but a test can."""
        self.apps[worker].settings.__dict__.update(values)

    async def ghost(self, role: str, worker: str) -> None:
        """A worker that lives, as far as PostgreSQL knows, and never says anything."""
        async with self.db.transaction() as tx:
            await journal.start_run(tx, role, worker, f"{worker}.ghost")

    async def bury(self, worker: str) -> None:
        """The ghost is gone."""
        async with self.db.transaction() as tx:
            await journal.end_run(tx, f"{worker}.ghost", "STOPPED", counted=False)

    async def close(self) -> None:
        """Stop everything."""
        await self._stack.aclose()


@asynccontextmanager
async def stage(bootstrap: str, dsn: str, *workers: tuple[str, str]) -> AsyncIterator[Stage]:
    """A running stage with `workers`, (role, name) each, beside web-1."""
    one = Stage(bootstrap, dsn, await make_topics(bootstrap))
    try:
        await one.open()
        for role, worker in workers:
            await one.start(role, worker)
        yield one
    finally:
        await one.close()
