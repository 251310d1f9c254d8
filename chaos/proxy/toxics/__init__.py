"""The toxics by their Toxiproxy names. A new one: a module with a Stage, and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from chaos.proxy.toxics.bandwidth import Bandwidth
from chaos.proxy.toxics.latency import Latency
from chaos.proxy.toxics.limit_data import LimitData
from chaos.proxy.toxics.reset_peer import ResetPeer
from chaos.proxy.toxics.slicer import Slicer
from chaos.proxy.toxics.slow_close import SlowClose
from chaos.proxy.toxics.stage import Stage
from chaos.proxy.toxics.timeout import Timeout

_STAGES: tuple[type[Stage[Any]], ...] = (
    Bandwidth,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
)
KINDS: Mapping[str, type[Stage[Any]]] = MappingProxyType({one.kind: one for one in _STAGES})
