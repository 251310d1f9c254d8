"""Faults `net_*`: the network between the workers and a server, by the lab's TCP proxy.

Toxic names and attributes are Toxiproxy's. New connections meet them, and those that stand.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from chaos.nemesis import http
from chaos.nemesis.faults import wire
from chaos.nemesis.faults.fault import Fault, Run, Unproved
from chaos.nemesis.faults.wire import Seen
from chaos.nemesis.world import World

SERVERS = ("kafka", "postgres", "gateway")
SUFFIX = "-proxy"
CLEAR_S = 0.01
"""A difference between two exchanges that is more than noise."""
NO_PROXY = "the lab runs without the TCP proxy: start it with `symphony up --proxy`"


class NetworkFault(Fault):
    """What the faults of the network share; `toxic` is Toxiproxy's type."""

    aims = "kafka-proxy, postgres-proxy, gateway-proxy"
    needs = "`symphony up --proxy`"
    for_s = 10.0
    recovers_from = "end"
    toxic: ClassVar[str] = ""
    stream: ClassVar[str] = "downstream"
    quiet_s: ClassVar[float] = 2.0

    def targets(self, world: World) -> list[str]:
        return [f"{server}{SUFFIX}" for server in SERVERS]

    def unavailable(self, world: World, target: str) -> str:
        return "" if world.proxy and target.removesuffix(SUFFIX) in self._known(world) else NO_PROXY

    @staticmethod
    def _known(world: World) -> Mapping[str, Any]:
        known: Mapping[str, Any] = (world.proxy or {}).get("proxies", {})
        return known

    def start(self, run: Run) -> None:
        assert run.world.proxy is not None
        url, server = run.world.proxy["url"], run.target.removesuffix(SUFFIX)
        host, _, port = http.ask("GET", f"{url}/proxies/{server}")["listen"].rpartition(":")
        run.notes |= {"url": url, "server": server, "host": host, "port": int(port)}
        run.notes["usual"] = self.look(run)
        name = f"nemesis-{run.action}"
        run.undo("toxic", url=url, proxy=server, name=name)
        body = {"name": name, "type": self.toxic, "stream": self.stream, "toxicity": 1.0}
        http.ask("POST", f"{url}/proxies/{server}/toxics", {**body, "attributes": dict(run.params)})

    def look(self, run: Run) -> Seen:
        """One exchange through the proxy."""
        notes = run.notes
        return wire.exchange(notes["server"], notes["host"], notes["port"], quiet_s=self.quiet_s)

    def prove(self, run: Run) -> str:
        usual, now = run.notes["usual"], self.look(run)
        if not self.shows(run, usual, now):
            raise Unproved(f"before: {usual}; now: {now}")
        return f"before: {_told(usual)}; now: {_told(now)}"

    @abstractmethod
    def shows(self, run: Run, usual: Seen, now: Seen) -> bool:
        """Whether `now` is what this fault makes of `usual`."""


class Down(NetworkFault):
    """Nobody can connect, and whoever was connected is cut off."""

    name = "net_down"

    def start(self, run: Run) -> None:
        assert run.world.proxy is not None
        url, server = run.world.proxy["url"], run.target.removesuffix(SUFFIX)
        host, _, port = http.ask("GET", f"{url}/proxies/{server}")["listen"].rpartition(":")
        run.notes |= {"url": url, "server": server, "host": host, "port": int(port)}
        run.notes["usual"] = self.look(run)
        run.undo("enable", url=url, proxy=server)
        http.ask("POST", f"{url}/proxies/{server}", {"enabled": False})

    def shows(self, run: Run, usual: Seen, now: Seen) -> bool:
        return now.ended == "refused" != usual.ended


class Latency(NetworkFault):
    """Every answer arrives late, with jitter."""

    name = "net_latency"
    toxic = "latency"
    params = MappingProxyType({"latency": 200, "jitter": 100})

    def shows(self, run: Run, usual: Seen, now: Seen) -> bool:
        least_s = (run.params["latency"] - run.params["jitter"]) / 1000
        later_s = now.first_s - usual.first_s
        return min(now.received, usual.received) > 0 and later_s >= max(least_s / 2, CLEAR_S)


class Bandwidth(NetworkFault):
    """Answers trickle: `rate` in KB/s."""

    name = "net_bandwidth"
    toxic = "bandwidth"
    params = MappingProxyType({"rate": 1})

    def shows(self, run: Run, usual: Seen, now: Seen) -> bool:
        least_s = now.received / (run.params["rate"] * 1000)
        later_s = now.last_s - usual.last_s
        return now.received == usual.received > 0 and later_s >= max(least_s / 2, CLEAR_S)


class BlackHole(NetworkFault):
    """Requests arrive, answers never do; connections stay open."""

    name = "net_blackhole"
    toxic = "timeout"
    params = MappingProxyType({"timeout": 0})

    def shows(self, run: Run, usual: Seen, now: Seen) -> bool:
        return usual.received > 0 and (now.received, now.ended) == (0, "silent")


class BlackHoleUp(BlackHole):
    """Requests vanish on their way; connections stay open."""

    name = "net_blackhole_up"
    stream = "upstream"


class ResetPeer(NetworkFault):
    """Connections are reset after `timeout` ms."""

    name = "net_reset_peer"
    toxic = "reset_peer"
    params = MappingProxyType({"timeout": 100})

    def shows(self, run: Run, usual: Seen, now: Seen) -> bool:
        return now.ended == "reset" != usual.ended


class Slicer(NetworkFault):
    """Answers arrive in small pieces with pauses between them (`delay` in us)."""

    name = "net_slicer"
    toxic = "slicer"
    params = MappingProxyType({"average_size": 24, "size_variation": 8, "delay": 3000})

    def shows(self, run: Run, usual: Seen, now: Seen) -> bool:
        return now.received == usual.received and len(now.pieces) > len(usual.pieces) + 1


class LimitData(NetworkFault):
    """Connections end after so many bytes of answers."""

    name = "net_limit_data"
    toxic = "limit_data"
    params = MappingProxyType({"bytes": 64})

    def shows(self, run: Run, usual: Seen, now: Seen) -> bool:
        return now.received <= run.params["bytes"] < usual.received and now.ended == "closed"


class SlowClose(NetworkFault):
    """Connections that a server closes stay open for `delay` ms more."""

    name = "net_slow_close"
    aims = "gateway-proxy"
    toxic = "slow_close"
    params = MappingProxyType({"delay": 1500})
    quiet_s = 5.0

    def targets(self, world: World) -> list[str]:
        # The others never close after an answer, so there would be nothing to see.
        return [f"gateway{SUFFIX}"]

    def shows(self, run: Run, usual: Seen, now: Seen) -> bool:
        later_s = (now.ended_s - now.first_s) - (usual.ended_s - usual.first_s)
        closed = now.ended == usual.ended == "closed"
        return closed and later_s >= max(run.params["delay"] / 2000, CLEAR_S)


def _told(seen: Seen) -> str:
    return (
        f"{seen.received} bytes in {len(seen.pieces)} pieces, first after {seen.first_s:.3f} s,"
        f" last after {seen.last_s:.3f} s, {seen.ended} after {seen.ended_s:.3f} s"
    )
