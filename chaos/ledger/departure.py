"""What the laboratory's supervisor does for a dead worker: make it leave its group at once.

Guarantees: never in the way of the restart (a thread of its own), one line per eviction. A broker
that does not answer leaves the dead member to its session timeout.
"""

from __future__ import annotations

import asyncio
import threading
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from aiokafka.errors import KafkaError

from chaos.lab.eviction import evict

if TYPE_CHECKING:
    from chaos.ledger.subject import Launch

EVICTION_S = 8.0


class Eviction(NamedTuple):
    """One attempt: how many members left, how long it took, and why not when it failed."""

    client_id: str
    members: int
    took_s: float
    failure: str


class Evictor:
    """Called with each dead worker's launch; `done` holds what came of it."""

    def __init__(self, bootstrap: str, group: str) -> None:
        self._bootstrap, self._group = bootstrap, group
        self._threads: list[threading.Thread] = []
        self.done: list[Eviction] = []

    def __call__(self, launch: Launch) -> None:
        """Evict in the background."""
        thread = threading.Thread(
            target=self._evict,
            args=(launch.client_id,),
            name=f"evict-{launch.client_id}",
            daemon=True,
        )
        self._threads.append(thread)
        thread.start()

    def close(self) -> None:
        """Wait for those under way."""
        for thread in self._threads:
            thread.join(EVICTION_S + 1)

    def _evict(self, client_id: str) -> None:
        began = monotonic()
        members, failure = 0, ""
        try:
            members = asyncio.run(
                asyncio.wait_for(evict(self._bootstrap, self._group, client_id), EVICTION_S)
            )
        except (KafkaError, TimeoutError, OSError) as error:
            failure = repr(error)
        self.done.append(Eviction(client_id, members, monotonic() - began, failure))
