"""The toxics of one proxy: adding, changing and removing them on all its connections at once."""

from __future__ import annotations

import time
from collections.abc import Collection

from chaos.proxy.bodies import ToxicBody, ToxicChange, attributes_of
from chaos.proxy.connection import Connection
from chaos.proxy.errors import too_many, toxic_already_exists, toxic_not_found
from chaos.proxy.lease import Lease
from chaos.proxy.log import say
from chaos.proxy.stats import STREAMS
from chaos.proxy.toxic import Strength, Toxic

TOXICS_MAX = 64


class ToxicList:
    """`connections` are those that flow now; the owner calls `infect` for each new one."""

    def __init__(self, proxy: str, seed: str, connections: Collection[Connection]) -> None:
        self._proxy, self._seed, self._connections = proxy, seed, connections
        self._toxics: dict[str, Toxic] = {}
        self._numbers = 0

    def documents(self) -> list[dict[str, object]]:
        """All toxics, those of upstream first, each stream in order of creation."""
        toxics = sorted(self._toxics.values(), key=lambda one: STREAMS.index(one.stream))
        return [toxic.document() for toxic in toxics]

    def get(self, name: str) -> Toxic:
        """A toxic by name. Raises ApiError."""
        if name not in self._toxics:
            raise toxic_not_found()
        return self._toxics[name]

    def add(self, body: ToxicBody) -> Toxic:
        """A new toxic, last in its stream. Raises ApiError and changes nothing then."""
        body = body.check()
        if body.name in self._toxics:
            raise toxic_already_exists()
        if len(self._toxics) >= TOXICS_MAX:
            raise too_many("toxics", TOXICS_MAX)
        strength = Strength(attributes_of(body.type, body.attributes), body.toxicity)
        self._numbers += 1
        toxic = Toxic(self._numbers, body.name, body.type, body.stream, strength, self._seed)
        self._toxics[toxic.name] = toxic
        if body.lease_ms is not None:
            toxic.lease = Lease(body.lease_ms, lambda: self._expire(toxic))
        for connection in list(self._connections):
            self._apply(toxic, connection)
        say("toxic added", proxy=self._proxy, toxic=toxic.document())
        return toxic

    def update(self, name: str, change: ToxicChange) -> Toxic:
        """Other attributes or toxicity; with a lease until it ends. Raises ApiError.

        A toxic that has a lease keeps it; a new `lease_ms` counts from now.
        """
        toxic = self.get(name)
        changed = _changed(toxic, toxic.strength, change)
        if change.lease_ms is None:
            if toxic.before is not None:
                toxic.before = _changed(toxic, toxic.before, change)
        elif toxic.lease is None:
            toxic.before = toxic.strength
            toxic.lease = Lease(change.lease_ms, lambda: self._expire(toxic))
        else:
            toxic.lease.renew(change.lease_ms)
        self._set(toxic, changed)
        say("toxic changed", proxy=self._proxy, toxic=toxic.document())
        return toxic

    def remove(self, name: str) -> None:
        """End a toxic. Raises ApiError when there is none."""
        toxic = self.get(name)
        del self._toxics[name]
        if toxic.lease is not None:
            toxic.lease.cancel()
        for connection in list(self._connections):
            connection.links[toxic.stream].remove(toxic.number)
        say("toxic removed", proxy=self._proxy, toxic=toxic.name)

    def clear(self) -> None:
        """End all."""
        for name in list(self._toxics):
            self.remove(name)

    def infect(self, connection: Connection) -> None:
        """Put all toxics that apply onto a new connection."""
        for toxic in self._toxics.values():
            self._apply(toxic, connection)

    def _apply(self, toxic: Toxic, connection: Connection) -> None:
        if toxic.applies_to(connection.number):
            stage = toxic.stage(connection.number, time.monotonic())
            connection.links[toxic.stream].add(toxic.number, stage)

    def _set(self, toxic: Toxic, strength: Strength) -> None:
        toxic.strength = strength
        for connection in list(self._connections):
            link = connection.links[toxic.stream]
            if not toxic.applies_to(connection.number):
                link.remove(toxic.number)
            elif link.has(toxic.number):
                link.change(toxic.number, strength.attributes)
            else:
                self._apply(toxic, connection)

    def _expire(self, toxic: Toxic) -> None:
        """The end of a lease: the toxic goes, or is again what it was."""
        say("lease ended", proxy=self._proxy, toxic=toxic.name)
        if toxic.before is None:
            self.remove(toxic.name)
            return
        before, toxic.before, toxic.lease = toxic.before, None, None
        self._set(toxic, before)


def _changed(toxic: Toxic, strength: Strength, change: ToxicChange) -> Strength:
    attributes = attributes_of(toxic.kind, change.attributes, strength.attributes)
    return Strength(attributes, strength.toxicity if change.toxicity is None else change.toxicity)
