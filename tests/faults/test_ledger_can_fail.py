"""The rebalance ledger is able to fail: a control and a core without two cures both lose events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from chaos.ledger.arena import Arena
from chaos.ledger.audit import Verdict, judge
from chaos.ledger.evidence import Collector
from chaos.ledger.faults import leave
from chaos.ledger.trial import Limits, Trial

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

EVENTS = 3_000
RATE_PER_S = 300.0
RACE = "delivery.after_resume=delay:700ms"
UNSAFE = ("chaos.naive.unsafe_resume",)


@pytest.fixture
def arena(public_dir: Path) -> Iterator[Arena]:
    """A broker, and a database when needed, of this test alone."""
    with Arena(public_dir, Limits(recovery_s=90.0)) as arena:
        yield arena


def audit(arena: Arena, trial: Trial) -> Verdict:
    """The verdict once the group is quiet, or cannot become so."""
    quiet_s = trial.quiesce()
    return judge(Collector(trial, arena.broker.bootstrap).collect(), quiet=quiet_s is not None)


def one_leave(arena: Arena, plugins: tuple[str, ...] = ()) -> Verdict:
    """Our core under load, each assignment held between seek and release; one worker leaves."""
    trial = arena.probe(plugins, RACE)
    trial.load.rate(RATE_PER_S)
    # Every partition has a changelog now. Faust's fetcher runs while that is recovered, and only
    # then can it poll too early.
    assert trial.recovered(monotonic()) is not None
    trial.load.burst(EVENTS)
    proof = leave(trial, trial.names[1])
    assert proof.holds, proof
    assert trial.recovered(proof.healed_at_s) is not None
    return audit(arena, trial)


def test_a_stock_agent_that_raises_loses(arena: Arena) -> None:
    """Faust acknowledges the event its agent failed on; no rebalance is needed to lose it."""
    trial = arena.stock("raising")
    trial.load.burst(500)
    verdict = audit(arena, trial)
    assert verdict.lost > 0, verdict


def test_the_core_without_two_cures_loses(arena: Arena) -> None:
    """Early polls move the fetch position, nobody seeks back, the hole is committed over."""
    verdict = one_leave(arena, UNSAFE)
    assert verdict.lost > 0, verdict


def test_the_core_survives_the_same_race(arena: Arena) -> None:
    """With deferral and guard in place the same pause in the same place costs time only."""
    verdict = one_leave(arena)
    assert verdict.events >= EVENTS
    assert verdict.findings(effects_once=True) == []
