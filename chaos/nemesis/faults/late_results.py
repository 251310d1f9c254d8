"""Fault `late_results`: a participant's results leave long after the saga gave up waiting."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from chaos.nemesis.faults.fault import Fault, Run, seen
from chaos.nemesis.world import World

POINT = "delivery.before_flush"
PARTICIPANTS = ("payment", "inventory", "shipping")
INJECTOR = "chaos.injector"
STRUCK = "fault.injected"


class LateResults(Fault):
    """A participant holds back its results, after their effects, past the saga's deadline."""

    name = "late_results"
    aims = "a worker of payment, inventory or shipping"
    needs = "orders that flow"
    for_s = 20.0
    recovers_from = "end"
    lease_extra_s = 120.0
    params: ClassVar[Mapping[str, Any]] = MappingProxyType({"delay_s": 12, "times": 2})

    def targets(self, world: World) -> list[str]:
        return world.workers(*PARTICIPANTS)

    def start(self, run: Run) -> None:
        world = run.world
        rule = f"{POINT}=delay:{run.params['delay_s']}s;times={run.params['times']}"
        plugins = [world.plan.environment.get("SYMPHONY_PLUGINS", "")]
        if INJECTOR not in plugins[0]:
            plugins.append(INJECTOR)
        rules = filter(None, (world.plan.environment.get("SYMPHONY_FAILPOINTS", ""), rule))
        environment = {
            "SYMPHONY_PLUGINS": ",".join(filter(None, plugins)),
            "SYMPHONY_FAILPOINTS": ",".join(rules),
        }
        run.notes["size"] = world.plan.files.log_of(run.target).stat().st_size
        run.undo("restart", part=run.target)
        world.lab.restart(run.target, environment=environment)

    def prove(self, run: Run) -> str:
        seen(f"results held back by {run.target}", lambda: self._struck(run))
        return f"{run.target} holds its results back for {run.params['delay_s']} s"

    @staticmethod
    def _struck(run: Run) -> bool:
        with run.world.plan.files.log_of(run.target).open("rb") as log:
            log.seek(run.notes["size"])
            return any(STRUCK.encode() in line and POINT.encode() in line for line in log)
