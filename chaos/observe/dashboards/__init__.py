"""All dashboards."""

from __future__ import annotations

from chaos.observe.dashboards.api import API
from chaos.observe.dashboards.canary import CANARY
from chaos.observe.dashboards.chaos import CHAOS
from chaos.observe.dashboards.dead_letters import DEAD_LETTERS
from chaos.observe.dashboards.kafka import KAFKA
from chaos.observe.dashboards.orders import ORDERS
from chaos.observe.dashboards.outbox import OUTBOX
from chaos.observe.dashboards.overview import OVERVIEW
from chaos.observe.dashboards.postgres import POSTGRES
from chaos.observe.dashboards.slo import SLO
from chaos.observe.panels import Dashboard

DASHBOARDS: tuple[Dashboard, ...] = (
    OVERVIEW,
    ORDERS,
    SLO,
    KAFKA,
    DEAD_LETTERS,
    CHAOS,
    CANARY,
    OUTBOX,
    POSTGRES,
    API,
)
