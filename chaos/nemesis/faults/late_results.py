"""Fault `late_results`: a participant's results leave long after the saga gave up waiting."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import psycopg2

from chaos import records
from chaos.lab.process import LabError
from chaos.nemesis.faults.fault import Fault, Run, log_bytes, logged, seen
from chaos.nemesis.world import World, role_of
from chaos.records import Record

POINT = "delivery.before_flush"
PARTICIPANTS = ("payment", "inventory", "shipping")
INJECTOR = "chaos.injector"
STRUCK = "fault.injected"
LAST = 300
"""So many of each partition's newest results are looked at."""
OVERDUE_S = 30.0
DONE_AT = (
    "select event_id::text, extract(epoch from at)::float8 from ops.inbox"
    " where consumer = %s and event_id = any(%s::uuid[])"
)


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
        run.notes["size"] = log_bytes(run)
        run.undo("restart", part=run.target)
        world.lab.restart(run.target, environment=environment)

    def prove(self, run: Run) -> str:
        topic, size = f"{role_of(run.target)}.result", run.notes["size"]
        seen(f"results held back by {run.target}", lambda: logged(run, size, STRUCK, POINT))
        delay_s = float(run.params["delay_s"])
        late_s = seen(
            f"a record on {topic} {delay_s:g} s after its effect",
            lambda: self._late(run, topic, delay_s),
            delay_s + OVERDUE_S,
        )
        return f"a record on {topic} came {late_s:.1f} s after its effect was committed"

    @staticmethod
    def _late(run: Run, topic: str, delay_s: float) -> float | None:
        since_ms = int(run.began_s * 1000)
        try:
            arrived = arrivals(records.read(run.world.bootstrap, [topic], last=LAST), since_ms)
            done = dict(run.world.sql(DONE_AT, role_of(run.target), list(arrived)))
        except (LabError, psycopg2.Error):  # another fault's doing
            return None
        return latest(arrived, done, delay_s)


def arrivals(results: Iterable[Record], since_ms: int) -> dict[str, float]:
    """When each command's first result was appended from `since_ms` on, by the broker's time
    (Unix seconds), by the command's event id.
    """
    found: dict[str, float] = {}
    for one in results:
        cause = (dict(one.headers).get("ce_causationid") or b"").decode("utf-8", "replace")
        try:
            command = str(uuid.UUID(cause))
        except ValueError:
            continue
        if one.timestamp >= since_ms:
            found[command] = min(found.get(command, one.timestamp / 1000), one.timestamp / 1000)
    return found


def latest(arrived: Mapping[str, float], done: Mapping[str, float], delay_s: float) -> float | None:
    """The longest time in seconds from a command's effect to its result; None below `delay_s`."""
    late_s = [at_s - done[command] for command, at_s in arrived.items() if command in done]
    return max((one for one in late_s if one >= delay_s), default=None)
