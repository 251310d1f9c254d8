"""Many seeds one after the other, and the smallest run that still fails."""

from __future__ import annotations

import gc
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from chaos.simulation.plan import plan_of
from chaos.simulation.run import simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chaos.simulation.plan import Plan
    from chaos.simulation.run import Result

COLLECT_EVERY = 20
"""Runs between two garbage collections: a run makes cycles, and few of its objects outlive it."""
SHRINK_RUNS_MAX = 200
UNTIL_LEAST_S = 1.0


class Campaign(NamedTuple):
    """What many runs came to; `failure` is the first run that broke a promise."""

    first_seed: int
    seeds: int
    sagas: int
    endings: Counter[str]
    faults: Counter[str]
    virtual_s: float
    wall_s: float
    cpu_s: float
    failure: Result | None

    @property
    def seeds_per_minute(self) -> float:
        """How many seeds a minute of one core's time."""
        return self.seeds / self.cpu_s * 60 if self.cpu_s else 0.0


def search(
    first_seed: int,
    count: int,
    plant: str = "",
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> Campaign:
    """Run `count` seeds, or fewer when one fails. Raises KeyError for an unknown plant."""
    endings: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    virtual_s, sagas, done, failure = 0.0, 0, 0, None
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()  # what is there now outlives every run: no need to look at it again
    gc.disable()
    try:
        for seed in range(first_seed, first_seed + count):
            result = simulate(plan_of(seed, plant))
            done += 1
            sagas += len(result.endings)
            virtual_s += result.virtual_s
            endings.update(result.endings)
            faults.update(result.plan.faults)
            if result.violations:
                failure = result
                break
            if done % COLLECT_EVERY == 0:
                gc.collect()
                progress(done)
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    return Campaign(first_seed, done, sagas, endings, faults, virtual_s, wall_s, cpu_s, failure)


def shrink(failed: Result, runs_max: int = SHRINK_RUNS_MAX) -> Result:
    """Return the smallest failing run that at most `runs_max` further runs find.

    Orders, kinds of fault, workers and time are taken away one by one as long as some promise is
    still broken. A run that does not fail any more is simply not taken.
    """
    best, runs, shrinking = failed, 0, True
    while shrinking:
        shrinking = False
        for plan in _smaller(best.plan):
            if runs >= runs_max:
                return best
            runs += 1
            result = simulate(plan)
            if result.violations:
                best, shrinking = result, True
                break
    return best


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Plans that are one step simpler, the boldest steps first."""
    if plan.faults:
        half = len(plan.faults) // 2
        if half > 1:
            yield plan._replace(faults=plan.faults[:half])
            yield plan._replace(faults=plan.faults[half:])
        for kind in plan.faults:
            yield plan._replace(faults=tuple(one for one in plan.faults if one != kind))
    for orders in sorted({1, plan.orders // 2, plan.orders - 1}):
        if 0 < orders < plan.orders:
            yield plan._replace(orders=orders)
    if plan.workers > 1:
        yield plan._replace(workers=1)
    if plan.operator:
        yield plan._replace(operator=False)
    shorter = float(int(plan.until_s * 0.7))
    if shorter >= UNTIL_LEAST_S:
        yield plan._replace(until_s=shorter)
