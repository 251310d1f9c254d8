"""Demo 3, the GameDay: latency is injected under load and guard; the 95th percentile turns red, the
experiment ends by itself, everything is green again, and a report says so. In a lab with Prometheus
the alerts that an operator needs must have fired in time, too."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from app.slo.objectives import completion_s
from chaos.demo.script import Script, Stage
from chaos.gameday.alerts import sentence

EXPERIMENT = "slow-provider"
OVERRIDES = {"durationS": 40, "warmUpS": 10, "ratePerS": 10}
OBJECTIVE, WINDOW = "completion", "5m"
"""95 % of the orders complete in time. A lab's windows are shorter than their names: 5m is five
seconds."""
ENOUGH = 10
"""Orders of a window below which its percentile says little."""
UNLOADED = frozenset({"audit", "report"})
"""Phases after the load: what ends then has waited on a retry tier, and stands for nobody else."""
ENDED_S = 420.0
LOOK_S = 1.0


class Look(NamedTuple):
    """What the API tells of the objective; None while it is not known, or of too few orders."""

    p95_ms: float | None
    burn_rate: float | None


NOTHING = Look(None, None)


def play(stage: Stage, script: Script) -> None:
    """Start the experiment, watch the objective, read the report. Raises PromiseBroken."""
    api = stage.api
    script.scene(f"Start the GameDay {EXPERIMENT}: {OVERRIDES['ratePerS']} orders per second, and a"
                 " payment provider that takes seconds")  # fmt: skip
    run = api.post("/api/gameday/start", {"experiment": EXPERIMENT, "overrides": OVERRIDES})
    script.tell(f"run {run['id']}, watch it: GET /api/gameday/runs/{run['id']}")
    colours, highest = _watch(stage, script, run["id"])

    script.scene("What the objective did")
    script.promise("it was green before the fault", colours[:1] == ["green"], colours)
    script.promise("it turned red under the fault", "red" in colours, colours)
    script.promise("it was green again in the end", colours[-1] == "green", colours)
    script.promise(
        f"its budget burned {highest:.1f} times as fast as allowed", highest > 1, highest
    )

    script.scene("The report")
    ended = api.get(f"/api/gameday/runs/{run['id']}")
    script.promise("the GameDay passed", ended["verdict"] == "passed", ended)
    script.tell(f"{stage.target.url}/api/gameday/runs/{run['id']}/report")
    exam = api.get(f"/api/gameday/runs/{run['id']}/journal")["x-symphony"]["exam"]
    script.tell(f"alert exam: {sentence(exam)}")
    if stage.lab.status().get("observe"):
        alerts_fired(script, exam)


def alerts_fired(script: Script, exam: Mapping[str, Any]) -> None:
    """The real rules told an operator in time. Raises PromiseBroken, also when nobody looked."""
    rows = exam.get("rows", ())
    for one in rows:
        took = "never" if one["detection_s"] is None else f"after {one['detection_s']:.1f} s"
        script.tell(f"{one['name']} fired {took}, {one['within_s']:g} s are allowed")
    kept = bool(rows) and all(one["answer"] == "in time" for one in rows)
    script.promise("the alerts that this fault must raise fired in time", kept, sentence(exam))


def _watch(stage: Stage, script: Script, run_id: str) -> tuple[list[str], float]:
    """Tell phase and objective until the run is over; the colours of the objective in turn, and
    the highest burn rate."""
    colours: list[str] = []
    told, highest, p95_max_ms = ("", ""), 0.0, 1000 * completion_s()
    deadline = time.monotonic() + ENDED_S
    while True:
        run: dict[str, Any] = stage.api.get(f"/api/gameday/runs/{run_id}")
        phase = run["phase"] or run["status"]
        over = run["status"] == "ENDED" or phase in UNLOADED
        p95_ms, burn_rate = NOTHING if over else _look(stage)
        highest = max(highest, burn_rate or 0.0)
        colour = told[1] if p95_ms is None else "red" if p95_ms > p95_max_ms else "green"
        if colour and colours[-1:] != [colour]:
            colours.append(colour)
        if (phase, colour) != told:
            told = (phase, colour)
            seen = "no data" if p95_ms is None else f"{p95_ms:,.0f} ms"
            burning = "no data" if burn_rate is None else f"{burn_rate:.1f}"
            script.tell(f"{phase:<22} p95 of completion {seen:>9}, burn rate {burning:>7}"
                        f"  {colour.upper()}")  # fmt: skip
        if run["status"] == "ENDED":
            return colours, highest
        if time.monotonic() > deadline:
            script.promise(f"the GameDay ends within {ENDED_S:g} s", kept=False, seen=phase)
        time.sleep(LOOK_S)


def _look(stage: Stage) -> Look:
    """Percentile and burn rate of the last seconds, as role slo has counted them."""
    found = stage.api.get("/api/metrics/slo")
    latency = next(one for one in found["latency"] if one["window"] == WINDOW)
    if (latency["orders"] or 0) < ENOUGH:
        return NOTHING
    windows = next(one for one in found["objectives"] if one["name"] == OBJECTIVE)["windows"]
    return Look(
        found["p95Latency"],
        next(one["burnRate"] for one in windows if one["window"] == WINDOW),
    )
