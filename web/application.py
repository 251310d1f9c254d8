"""The web role's aiohttp application: every route stands here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from aiohttp import web

from app.observability.health import metrics_view
from web.admission import ADMISSION, Admission, admit
from web.api import (
    aliases,
    canary,
    contract,
    dlq,
    floods,
    health,
    notifications,
    operations,
    orders,
    payments,
    products,
    replay,
    reviews,
    sagas,
    slo,
)
from web.api.writer import OrderWriter
from web.context import CONTEXT, ERROR_PAGE, Context
from web.edge import edge
from web.ops import assets, pages
from web.routes import ROUTES, Route, add_routes
from web.slo import OBJECTIVES, ObjectivesReader

Extension = Callable[[web.Application], None]

API = (
    orders,
    aliases,
    reviews,
    payments,
    canary,
    products,
    sagas,
    operations,
    dlq,
    floods,
    replay,
    notifications,
    slo,
    health,
    contract,
)
"""The modules of the API; each has `ROUTES`."""


def declared_routes() -> list[Route]:
    """Return every route of the product's API, without a laboratory's."""
    return [route for module in API for route in module.ROUTES]


def build(context: Context, extensions: Sequence[Extension] = ()) -> web.Application:
    """Return the application over `context`; it needs PostgreSQL to do its work, never Kafka.

    The order writers start and stop with it. Bodies over `api_body_max_bytes` are refused.
    `extensions` add what a laboratory serves beside the product.
    """
    application = web.Application(
        middlewares=[edge, admit], client_max_size=context.settings.api_body_max_bytes
    )
    application[CONTEXT] = context
    application[ERROR_PAGE] = pages.error_page
    application[orders.WRITER] = OrderWriter(context.settings, context.db, context.clock)
    application[OBJECTIVES] = ObjectivesReader(context)
    application.cleanup_ctx.append(_writers)
    application[ROUTES] = []
    application[contract.DOCUMENTS] = {}
    application[ADMISSION] = Admission(context.settings.api_concurrency_max)
    add_routes(application, declared_routes())
    application.router.add_get("/metrics", metrics_view)
    _page_routes(application)
    for extend in extensions:
        extend(application)
    return application


async def _writers(application: web.Application) -> AsyncIterator[None]:
    await application[orders.WRITER].start()
    yield
    await application[orders.WRITER].stop()


def _page_routes(application: web.Application) -> None:
    router = application.router
    router.add_get("/", pages.index)
    router.add_get("/orders/{order_id}", pages.order)
    router.add_get("/ops/fragments/orders", pages.orders_fragment)
    router.add_get("/ops/fragments/orders/{order_id}", pages.order_fragment)
    router.add_get("/static/{name}", assets.serve)
