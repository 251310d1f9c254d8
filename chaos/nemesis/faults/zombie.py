"""Fault `zombie`: a consuming worker is frozen past its session and wakes as a stranger."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from app.roles import ROLES
from chaos.nemesis.faults.fault import Run, seen
from chaos.nemesis.faults.groups import members
from chaos.nemesis.faults.pause import Pause
from chaos.nemesis.world import World, role_of


class Zombie(Pause):
    """A worker is frozen for longer than its session: its group goes on without it, it wakes."""

    name = "zombie"
    aims = "a consuming worker"
    for_s = 20.0
    params: ClassVar[Mapping[str, Any]] = MappingProxyType({"session_s": 10.0})

    def targets(self, world: World) -> list[str]:
        return [one for one in world.workers() if ROLES[role_of(one)].consumes]

    def start(self, run: Run) -> None:
        run.notes["client_id"] = run.world.client_id(run.target)
        super().start(run)

    def prove(self, run: Run) -> str:
        evidence = super().prove(run)
        group, client_id = run.world.group(role_of(run.target)), run.notes["client_id"]
        seen(
            f"{client_id} is expelled from {group}",
            lambda: client_id not in members(run.world.bootstrap, group),
            max(run.for_s, float(run.params["session_s"]) + 10),
        )
        return f"{evidence}; {client_id} was expelled from {group}"
