"""The web role's aiohttp application: every route stands here."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web

from app.observability.health import metrics_view
from web.api import health, orders, products, sagas
from web.api.writer import OrderWriter
from web.context import CONTEXT, ERROR_PAGE, Context
from web.edge import edge
from web.ops import assets, pages


def build(context: Context) -> web.Application:
    """Return the application over `context`; it needs PostgreSQL to do its work, never Kafka.

    The order writers start and stop with it. Bodies over `api_body_max_bytes` are refused.
    """
    application = web.Application(
        middlewares=[edge], client_max_size=context.settings.api_body_max_bytes
    )
    application[CONTEXT] = context
    application[ERROR_PAGE] = pages.error_page
    application[orders.WRITER] = OrderWriter(context.settings, context.db, context.clock)
    application.cleanup_ctx.append(_writers)
    _api_routes(application)
    _page_routes(application)
    return application


async def _writers(application: web.Application) -> AsyncIterator[None]:
    await application[orders.WRITER].start()
    yield
    await application[orders.WRITER].stop()


def _api_routes(application: web.Application) -> None:
    router = application.router
    router.add_post("/api/orders", orders.place)
    router.add_post("/orders", orders.place_created)
    router.add_get("/api/orders", orders.recent)
    router.add_get("/api/orders/{order_id}", orders.show)
    router.add_post("/api/orders/{order_id}/cancel", orders.cancel)
    router.add_get("/api/products", products.listing)
    router.add_get("/api/products/{product_id}", products.show)
    router.add_get("/api/sagas", sagas.recent)
    router.add_get("/api/sagas/{order_id}", sagas.show)
    router.add_get("/metrics", metrics_view)
    router.add_get("/livez", health.livez)
    router.add_get("/readyz", health.readyz)
    router.add_get("/health", health.health)
    router.add_get("/api/healthz", health.health)


def _page_routes(application: web.Application) -> None:
    router = application.router
    router.add_get("/", pages.index)
    router.add_get("/orders", pages.index)
    router.add_get("/orders/{order_id}", pages.order)
    router.add_get("/ops/fragments/orders", pages.orders_fragment)
    router.add_get("/ops/fragments/orders/{order_id}", pages.order_fragment)
    router.add_get("/static/{name}", assets.serve)
