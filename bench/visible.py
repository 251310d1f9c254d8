"""How soon what happened shows in the service levels, as whoever asks the API sees it.

A lab with every role, at rest, one order at a time at random moments of whatever runs in periods
(polls of role slo, the API's answers of up to a second): it is accepted, ends, and is looked for in
`GET /api/metrics/slo` until it counts. The event is the order's end, by its own time.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from app.settings import load_settings
from bench import report
from chaos.console.api import Api
from chaos.console.recorded import place_recorded
from chaos.lab.cli import make_plan
from chaos.lab.client import Lab
from chaos.workload.target import Target, target_of

BOUND_S = 2.0
LOOK_S, PAUSE_MAX_S, PATIENCE_S = 0.02, 2.0, 60.0
SHOWN_EVERY = 10
BODY = {"total": "15.00", "currency": "EUR"}


def outcomes(told: dict[str, Any]) -> int | None:
    """How many outcomes are counted in all that is kept; None while that is not known."""
    if told["stale"]:
        return None
    [objective] = [one for one in told["objectives"] if one["name"] == "availability"]
    whole = next(one for one in objective["windows"] if one["window"] == objective["window"])
    return (whole["good"] or 0) + (whole["bad"] or 0)


def measure(orders: int) -> dict[str, Any]:
    """Seconds from each order's end, and from its acceptance, to the answer that counts it."""
    with tempfile.TemporaryDirectory(prefix="symphony-bench-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        lab = Lab.up(make_plan(load_settings(lab_dir=Path(directory))), detach=False)
        try:
            timed = list(_placed(target_of(lab), orders))
        finally:
            lab.down()
    return {"ended_s": [one[0] for one in timed], "accepted_s": [one[1] for one in timed]}


def table(found: dict[str, list[float]]) -> tuple[bool, list[str]]:
    """Whether the bound is not kept, and the page's table."""
    rows = []
    for name, key in (("its end", "ended_s"), ("its acceptance", "accepted_s")):
        picked = report.percentiles(found[key], 1000)
        rows.append([name, len(found[key]), *picked.values()])
    late = (report.percentiles(found["ended_s"])["p95"] or 0.0) > BOUND_S
    head = ["an order counts after", "orders", "p50 ms", "p95 ms", "p99 ms", "max ms"]
    kept = "**not kept**" if late else "kept"
    return late, [
        *report.table(head, rows), "", f"Bound: p95 {BOUND_S:g} s after its end: {kept}.",
    ]  # fmt: skip


def _placed(target: Target, orders: int) -> Iterator[tuple[float, float]]:
    """Place one order after the other; how long each took to be seen, after its end and in all."""
    api, draw = Api(target.url), random.Random(1)
    seen = _until(lambda: outcomes(api.get("/api/metrics/slo")), "role slo has read everything")
    for number in range(1, orders + 1):
        time.sleep(draw.uniform(0, PAUSE_MAX_S))
        name = f"visible-{number}"  # a customer of its own: many orders of one would be reviewed
        order = place_recorded(target, {**BODY, "customerId": name}, name)
        seen = _until(partial(_more_than, api, seen), f"order {number} counts")
        found_s = time.time()
        told = api.get(f"/api/orders/{order['orderId']}")
        ended_s, accepted_s = (
            datetime.fromisoformat(told[name]).timestamp() for name in ("updatedAt", "createdAt")
        )
        yield found_s - ended_s, found_s - accepted_s
        if number % SHOWN_EVERY == 0:
            print(f"{number} of {orders} orders", file=sys.stderr, flush=True)


def _more_than(api: Api, before: int) -> int | None:
    counted = outcomes(api.get("/api/metrics/slo"))
    return counted if counted is not None and counted > before else None


def _until(look: Callable[[], int | None], what: str) -> int:
    deadline_s = time.monotonic() + PATIENCE_S
    while (found := look()) is None:
        if time.monotonic() > deadline_s:
            sys.exit(f"it did not happen within {PATIENCE_S:g} s that {what}")
        time.sleep(LOOK_S)
    return found
