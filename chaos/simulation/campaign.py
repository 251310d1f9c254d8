"""Many seeds, on every core that may be used, and the smallest run that still fails."""

from __future__ import annotations

import gc
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING, NamedTuple

from chaos.simulation.plan import plan_of
from chaos.simulation.run import simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from chaos.simulation.plan import Plan
    from chaos.simulation.run import Result

PART_SEEDS = 100
"""Seeds that one process runs before it tells what came of them."""
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
    jobs: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> Campaign:
    """Run `count` seeds by `jobs` processes, or fewer when one fails: then the lowest that fails is
    told, and nothing of the seeds after it. Raises KeyError for an unknown plant.
    """
    began_s = time.perf_counter()
    begins = range(first_seed, first_seed + count, PART_SEEDS)
    sizes = [min(PART_SEEDS, first_seed + count - one) for one in begins]
    parts: list[Campaign] = []
    for part in _parts(partial(_part, plant=plant), begins, sizes, jobs):
        parts.append(part)
        progress(sum(one.seeds for one in parts))
        if part.failure is not None:
            break
    return _joined(parts, time.perf_counter() - began_s)


def _parts(
    run: Callable[[int, int], Campaign], begins: Sequence[int], sizes: Sequence[int], jobs: int
) -> Iterator[Campaign]:
    """What came of each part, in their order; parts that nobody waits for any more do not begin."""
    if jobs == 1:
        yield from map(run, begins, sizes)
        return
    pool = ProcessPoolExecutor(jobs, get_context("fork"))
    try:
        yield from pool.map(run, begins, sizes)
    finally:
        pool.shutdown(cancel_futures=True)


def _joined(parts: Sequence[Campaign], wall_s: float) -> Campaign:
    return Campaign(
        parts[0].first_seed,
        seeds=sum(one.seeds for one in parts),
        sagas=sum(one.sagas for one in parts),
        endings=sum((one.endings for one in parts), Counter()),
        faults=sum((one.faults for one in parts), Counter()),
        virtual_s=sum(one.virtual_s for one in parts),
        wall_s=wall_s,
        cpu_s=sum(one.cpu_s for one in parts),
        failure=parts[-1].failure,
    )


def _part(first_seed: int, count: int, plant: str) -> Campaign:
    """Run `count` seeds in this process, or fewer when one fails."""
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
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    return Campaign(first_seed, done, sagas, endings, faults, virtual_s, wall_s, cpu_s, failure)


def shrink(failed: Result) -> Result:
    """Return the smallest failing run that at most SHRINK_RUNS_MAX further runs find.

    Orders, kinds of fault, workers and time are taken away one by one as long as some promise is
    still broken. A run that does not fail any more is simply not taken.
    """
    best, runs, shrinking = failed, 0, True
    while shrinking:
        shrinking = False
        for plan in _smaller(best.plan):
            if runs >= SHRINK_RUNS_MAX:
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
