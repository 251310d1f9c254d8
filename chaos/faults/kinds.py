"""The fault kinds that a chaos rule may name: each with what it takes and where it acts."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from app.roles import ROLES
from chaos.faults import on_handling, on_http, on_messages, on_process, on_servers
from chaos.faults.kind import UNSAFE_TO_LOSE, Active, Base, Kind

_ALL = frozenset(name for name, role in ROLES.items() if not role.lab_only)
_CONSUMING = frozenset(name for name in _ALL if ROLES[name].consumes)
_SENDING = frozenset(name for name in _ALL if ROLES[name].produces)
_WEB = frozenset({"web"})
_MESSAGE = frozenset({"topic", "type", "step"})
_ROUTE = frozenset({"route"})
_NOTHING: frozenset[str] = frozenset()


def _kind(
    name: str,
    active: type[Base[Any]],
    scope: frozenset[str],
    roles: frozenset[str],
    *conflicts: str,
    loses: bool = False,
) -> Kind:
    """A kind that must not be in force twice at one place, nor beside `conflicts`."""
    first = (active.__doc__ or "").partition("\n\n")[0]
    meaning = " ".join(first.split())
    all_conflicts = frozenset((name, *conflicts))
    return Kind(name, meaning, active.params, scope, roles, all_conflicts, active, loses)


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        one.name: one
        for one in (
            _kind("drop", on_messages.Drop, _MESSAGE, _CONSUMING, loses=True),
            _kind("duplicate", on_messages.Duplicate, _MESSAGE, _SENDING),
            _kind("delay", on_messages.Delay, _MESSAGE, _CONSUMING),
            _kind("corrupt", on_messages.Corrupt, _MESSAGE, _SENDING, loses=True),
            _kind("reorder", on_messages.Reorder, _MESSAGE, _CONSUMING),
            _kind("error", on_handling.Error, _MESSAGE, _CONSUMING, "timeout"),
            _kind("timeout", on_handling.Timeout, _MESSAGE, _CONSUMING, "error"),
            _kind("slow", on_handling.Slow, _MESSAGE, _CONSUMING),
            _kind("pause", on_servers.Pause, frozenset({"topic", "step"}), _CONSUMING),
            _kind("crash", on_handling.Crash, _MESSAGE | {"point"}, _ALL),
            _kind("db_latency", on_servers.DbLatency, _NOTHING, _ALL),
            _kind("db_error", on_servers.DbError, _NOTHING, _ALL),
            _kind("http_latency", on_http.HttpLatency, _ROUTE, _WEB),
            _kind("http_error", on_http.HttpError, _ROUTE, _WEB, "http_timeout"),
            _kind("http_timeout", on_http.HttpTimeout, _ROUTE, _WEB, "http_error"),
            _kind("memory_leak", on_process.MemoryLeak, _NOTHING, _ALL),
            _kind("cpu_burn", on_process.CpuBurn, _NOTHING, _ALL),
        )
    }
)

__all__ = ["KINDS", "UNSAFE_TO_LOSE", "Active", "Kind"]
