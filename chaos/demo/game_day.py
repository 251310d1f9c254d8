"""Demo 3, the GameDay: latency is injected under load and guard; the 95th percentile turns red, the
experiment ends by itself, everything is green again, and a report says so."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from chaos.demo.script import Script, Stage
from chaos.gameday.alerts import sentence

EXPERIMENT = "slow-provider"
OVERRIDES = {"durationS": 40, "warmUpS": 10, "ratePerS": 10}
P95_MAX_MS = 2000
"""The objective: 95 % of the orders complete within two seconds."""
WINDOW_S = 6.0
ENOUGH = 10
ENDED_S = 420.0
LOOK_S = 1.0
AGAIN_S = 90.0


def play(stage: Stage, script: Script) -> None:
    """Start the experiment, watch the objective, read the report. Raises PromiseBroken."""
    api = stage.api
    script.scene(f"Start the GameDay {EXPERIMENT}: {OVERRIDES['ratePerS']} orders per second, and a"
                 " payment provider that takes seconds")  # fmt: skip
    run = api.post("/api/gameday/start", {"experiment": EXPERIMENT, "overrides": OVERRIDES})
    script.tell(f"run {run['id']}, watch it: GET /api/gameday/runs/{run['id']}")
    colours = _watch(stage, script, run["id"])

    script.scene("What the objective did")
    script.promise("it was green before the fault", colours[:1] == ["green"], colours)
    script.promise("it turned red under the fault", "red" in colours, colours)
    script.promise("it was green again in the end", colours[-1] == "green", colours)

    script.scene("The report")
    ended = api.get(f"/api/gameday/runs/{run['id']}")
    script.promise("the GameDay passed", ended["verdict"] == "passed", ended)
    script.tell(f"{stage.target.url}/api/gameday/runs/{run['id']}/report")
    exam = api.get(f"/api/gameday/runs/{run['id']}/journal")["x-symphony"]["exam"]
    script.tell(f"alert exam: {sentence(exam)}")
    if exam["sat"]:
        told = [(one["name"], one["answer"], one["detection_s"]) for one in exam["rows"]]
        kept = all(answer == "in time" for _, answer, _ in told)
        script.promise("the alerts that this fault must raise fired in time", kept, told)


def _watch(stage: Stage, script: Script, run_id: str) -> list[str]:
    """Tell phase and objective until the run is over; the colours of the objective in turn."""
    colours: list[str] = []
    told = ("", "")
    deadline = time.monotonic() + ENDED_S
    while True:
        run: dict[str, Any] = stage.api.get(f"/api/gameday/runs/{run_id}")
        p95_ms = _p95_ms(stage)
        colour = told[1] if p95_ms is None else "red" if p95_ms > P95_MAX_MS else "green"
        if colour and colours[-1:] != [colour]:
            colours.append(colour)
        phase = run["phase"] or run["status"]
        if (phase, colour) != told:
            told = (phase, colour)
            seen = "no data" if p95_ms is None else f"{p95_ms:,.0f} ms"
            script.tell(f"{phase:<22} p95 of completion {seen:>9}  {colour.upper()}")
        if run["status"] == "ENDED":
            return colours
        if time.monotonic() > deadline:
            script.promise(f"the GameDay ends within {ENDED_S:g} s", kept=False, seen=phase)
        time.sleep(LOOK_S)


def _p95_ms(stage: Stage) -> float | None:
    """How long 95 % of the orders took that completed lately; None without enough of them."""
    orders = stage.api.get("/api/orders?status=COMPLETED&limit=200")["orders"]
    now = time.time()
    took = sorted(
        (_seconds(one["updatedAt"]) - _seconds(one["createdAt"])) * 1000
        for one in orders
        if now - _seconds(one["updatedAt"]) < WINDOW_S
    )
    return took[int(0.95 * len(took))] if len(took) >= ENOUGH else None


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()
