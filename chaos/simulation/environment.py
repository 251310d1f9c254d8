"""Puts a world under the product for the time of one run, and takes it away again.

The product reaches time, randomness, process end, database sessions and HTTP through names of its
modules; those names are replaced here and nowhere else. `tests/simulation/test_seams.py` fails when
a module of the product uses one that this list does not know.
"""

from __future__ import annotations

import logging
import random
from contextlib import ExitStack, contextmanager
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import app.db.pool
import app.delivery.agent
import app.delivery.consumer
import app.delivery.patience
import app.delivery.state
import app.delivery.ticks
import app.gateway.client
import app.outages
import app.relay.ownership
import app.relay.rounds
from chaos.simulation.connection import connect
from chaos.simulation.gateway import http_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chaos.simulation.world import World

MONOTONIC = (
    app.delivery.agent,
    app.delivery.consumer,
    app.delivery.patience,
    app.delivery.state,
    app.delivery.ticks,
    app.relay.ownership,
    app.outages,
    app.relay.rounds,
)
"""Modules that have bound `time.monotonic`."""
ENDING = (app.delivery.agent, app.delivery.consumer, app.delivery.patience)
"""Modules that end their process."""


class NoChannel:
    """In place of `BatchTopic`: the simulation brings the polls itself."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Nothing is subscribed."""


def _edges(world: World) -> Iterator[tuple[Any, str, Any]]:
    for module in MONOTONIC:
        yield module, "monotonic", world.loop.time
    for module in ENDING:
        yield module, "end_process", world.end_process
    yield app.gateway.client, "time", SimpleNamespace(monotonic=world.loop.time)
    yield app.gateway.client, "aiohttp", http_of(world)
    yield app.db.pool, "connect", partial(connect, world)
    yield app.delivery.agent, "BatchTopic", NoChannel


@contextmanager
def installed(world: World) -> Iterator[None]:
    """Run the block in `world`. Not for two worlds at a time, and not for threads."""
    state, disabled = random.getstate(), logging.root.manager.disable
    with ExitStack() as stack:
        for module, name, value in _edges(world):
            stack.enter_context(patch.object(module, name, value))
        random.seed(world.plan.seed)
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(disabled)
            random.setstate(state)
