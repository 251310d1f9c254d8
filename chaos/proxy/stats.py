"""What a proxy has counted, so that a fault can prove its own effect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

STREAMS = ("upstream", "downstream")


@dataclass
class StreamStats:
    """One direction of all connections of a proxy, since the proxy exists; `held` is now."""

    bytes: int = 0
    held: int = 0
    delayed: int = 0
    dropped: int = 0


@dataclass
class ConnectionStats:
    """Connections of a proxy since it exists; see docs/proxy.md for the words."""

    connections: int = 0
    refused: int = 0
    closed: int = 0
    resets: int = 0


class Stats:
    """All counters of one proxy."""

    def __init__(self) -> None:
        self.of = ConnectionStats()
        self.streams: Mapping[str, StreamStats] = {name: StreamStats() for name in STREAMS}

    def document(self, connections_open: int) -> dict[str, object]:
        """The field `stats` of a proxy: totals, and the same per stream."""
        streams = {name: asdict(one) for name, one in self.streams.items()}
        totals = {
            f"bytes_{field.name}": sum(one[field.name] for one in streams.values())
            for field in fields(StreamStats)
            if field.name != "bytes"
        }
        return {
            **asdict(self.of),
            "connections_open": connections_open,
            "bytes_upstream": streams["upstream"]["bytes"],
            "bytes_downstream": streams["downstream"]["bytes"],
            **totals,
            "streams": streams,
        }
