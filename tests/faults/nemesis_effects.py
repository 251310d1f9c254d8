"""Which fault is shown to work at which target; those of one round are done at the same time."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

_NONE: Mapping[str, Any] = MappingProxyType({})


class Effect(NamedTuple):
    """A fault at a target for so long; `after` is what must be told once it has ended."""

    fault: str
    target: str
    for_s: float = 0.0
    after: str = ""
    params: Mapping[str, Any] = _NONE


#: By hand, with NEMESIS_LONG=1: the same faults, longer than sessions and deadlines are.
LONG: tuple[tuple[Effect, ...], ...] = (
    (
        Effect("late_results", "payment-1", 14.0),
        Effect("pause", "web-1", 12.0),
        Effect("pause", "relay-1", 12.0),
        Effect("zombie", "orchestrator-1", 20.0),
        Effect("net_slicer", "kafka-proxy", 10.0),
    ),
)
EFFECTS: tuple[tuple[Effect, ...], ...] = (
    *LONG,
    (
        Effect("kill", "payment-1"),
        Effect("kill", "relay-1"),
        Effect("kill", "web-1"),
        Effect("terminate", "shipping-1"),
        Effect("restart", "inventory-1", 0.5, "serves"),
    ),
    (Effect("kill", "broker"),),
    (Effect("kill", "gateway-sim"), Effect("kill_role", "payment")),
    (Effect("restart", "postgres", 0.5, "serves"),),
    (Effect("restart_immediate", "postgres", 0.5, "serves"),),
    (Effect("restart", "broker", 0.5, "serves"),),
    (Effect("pause", "postgres", 1.0),),
    (Effect("pause", "broker", 1.0), Effect("pause", "gateway-sim", 1.0)),
    (Effect("pause", "orchestrator-1", 1.0), Effect("backend_terminate", "inventory-1")),
    (Effect("backend_kill", "shipping-1"),),
    (Effect("row_lock", "inventory", 1.0), Effect("idle_transaction", "postgres", 1.0)),
    (Effect("gateway_error", "gateway", 1.0),),
    (Effect("gateway_decline", "gateway", 1.0),),
    (Effect("gateway_timeout", "gateway", 1.0),),
    (Effect("gateway_reply_lost", "gateway", 1.0),),
    (Effect("gateway_latency", "gateway", 1.0),),
    (Effect("net_down", "kafka-proxy", 1.0), Effect("net_down", "gateway-proxy", 1.0)),
    (Effect("net_latency", "postgres-proxy", 1.0), Effect("net_latency", "gateway-proxy", 1.0)),
    (Effect("net_bandwidth", "kafka-proxy", 1.0), Effect("net_slicer", "postgres-proxy", 1.0)),
    (Effect("net_blackhole", "kafka-proxy", 1.0), Effect("net_limit_data", "gateway-proxy", 1.0)),
    (Effect("net_blackhole_up", "postgres-proxy", 1.0),),
    (Effect("net_reset_peer", "postgres-proxy", 1.0), Effect("net_slow_close", "gateway-proxy", 1)),
    (
        Effect("clock", "payment-1", 1.0, "right again", {"skew_s": -3600.0}),
        Effect("clock", "web-1", 1.0, "right again", {"skew_s": 90.0}),
        Effect("memory", "inventory-1", 1.0, "", {"hog_mb": 128}),
    ),
    (Effect("disk_slow", "postgres", 1.0),),
    (
        Effect("duplicates", "results"),
        Effect("duplicates", "commands-and-events"),
        Effect("storm", "inventory", 8.0, "generations"),
        Effect("table_loss", "orchestrator-1", 0.0, "serves again"),
    ),
    # only half of the payments stand still here: orders must come to the full disk
    (Effect("zombie", "payment-2", 12.0), Effect("disk_full", "shipping-1", 4.0, "own disk again")),
    (
        Effect("table_corruption", "inventory-1", 0.0, "serves again"),
        Effect("late_results", "payment-1", 2.0, "", {"delay_s": 3, "times": 1}),
    ),
    (Effect("poison", "topics", 0.0, "a dead letter exactly once"),),
)
