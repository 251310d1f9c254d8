"""Our core on trial on real Kafka and PostgreSQL: every fault kind, thousands of events in flight.

One campaign for the whole file; `symphony ledger run` does the same for as long as one likes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.ledger.arena import Arena
from chaos.ledger.campaign import Campaign, Plan, Result
from chaos.ledger.faults import ALL_FAULTS
from chaos.ledger.trial import Limits

# the whole campaign runs inside the first test
pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

IN_FLIGHT_MIN = 2_000
BURST = 3_000
JOIN_BURST = 16_000
# Only so that its burst outlasts the start of a joining worker.
SLOW = "delivery.before_step=delay:80ms"
# A loaded machine recovers late; a worker that stays idle is late by any measure.
PATIENT = Limits(recovery_s=90.0, quiesce_s=120.0)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, servers_dir: Path) -> Path:
    """Logs and ledgers of the campaign."""
    return servers_dir / tmp_path_factory.mktemp("ledger").name


@pytest.fixture(scope="module")
def result(directory: Path) -> Iterator[Result]:
    """Each fault kind at least once, a burst before each, an audit at the end."""
    plan = Plan(
        rounds=len(ALL_FAULTS),
        faults=ALL_FAULTS,
        seed=7,
        rates=(100.0,),
        block=len(ALL_FAULTS),
        burst=BURST,
        join_burst=JOIN_BURST,
        in_flight_min=IN_FLIGHT_MIN,
    )
    with Arena(directory, PATIENT) as arena:
        trial = arena.probe(failpoints=SLOW)
        (found,) = Campaign([trial], arena.broker, plan, print).run()
        yield found


@pytest.mark.parametrize("fault", ALL_FAULTS)
def test_every_fault_proves_its_effect_with_thousands_in_flight(fault: str, result: Result) -> None:
    """The group log, the process table or a silent broker shows the fault, under load."""
    proven = [one for one in result.rounds if one.fault == fault and one.proven]
    assert proven, result.rounds
    assert max(one.in_flight for one in proven) >= IN_FLIGHT_MIN, proven


def test_every_partition_moves_again_after_every_fault(result: Result) -> None:
    """No worker stays alive and idle: all watermarks were committed past the fault."""
    assert [one for one in result.rounds if one.recovery_s is None] == []


def test_nothing_is_lost_stuck_or_doubled(result: Result) -> None:
    """Every acknowledged event had each effect once, in order of state, and reached its end."""
    verdict = result.verdicts[-1]
    assert verdict.findings(effects_once=True) == []
    assert verdict.events >= len(ALL_FAULTS) * BURST
    assert (verdict.lost, verdict.stuck) == (0, 0)
    assert verdict.stage_1.doubled == verdict.stage_2.doubled == 0


def test_the_faults_made_the_core_deliver_again(result: Result) -> None:
    """Without a repeated delivery the inbox was never asked, and the proof would prove little."""
    assert result.verdicts[-1].duplicates > 0
