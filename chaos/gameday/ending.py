"""The end of a GameDay: faults ended, alerts examined, load ended, books audited, verdict.

Called once, whatever has happened before; whatever happens here, there is a verdict. It judges
nothing itself: the verdict, the marks of the exam and the audit are each a subject of their own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from chaos.gameday import alerts
from chaos.gameday.audit import NO_AUDIT, Audit, audit, only_known
from chaos.gameday.verdict import FaultFound, Findings, Verdict, judge
from chaos.lab.process import LabError
from chaos.observe.exam import Fault
from chaos.workload.traffic import TrafficFailed

if TYPE_CHECKING:
    from chaos.gameday.game import Game
    from chaos.gameday.strikes import Struck

LOOK_S = 0.2
RECHECK_S = 15.0
"""How long the steady state may be away that Chaos Toolkit has just seen."""


class Ending(NamedTuple):
    """How a GameDay ended. `settle_s` is the wait for the last answers and, in the auditor, for
    rest; `audit_s` is what reading and judging the books took, None without a verdict of them.
    `exam` is empty when no alert was asked about in a lab that has none.
    """

    verdict: Verdict
    steady_after: bool | None
    exam: Mapping[str, Any]
    audit: Mapping[str, Any]
    settle_s: float
    audit_s: float | None


def end(game: Game, steady_before: bool | None, steady_after: bool | None) -> Ending:
    """End everything and judge it. The steady states are what Chaos Toolkit found before and after
    the method; None: it did not look.
    """
    left: Sequence[str] = ()
    recovered = steady_after
    try:
        left = game.end_faults()["left"]
        recovered = _recheck(game, steady_before, steady_after)
    except (LabError, OSError) as error:
        recovered = None
        game.found_broken(f"the lab is gone: {error}")
    exam = _examine(game, steady_before)
    settle_s = _end_load(game)
    audited = _audit(game) if steady_before else NO_AUDIT
    verdict = judge(
        Findings(
            steady_before=steady_before,
            steady_after=recovered,
            faults=tuple(_fault_found(one) for one in game.strikes.struck),
            aborted=game.aborted,
            broken=game.broken,
            left=tuple(left),
            audit=audited.result,
            audit_detail=audited.first_wrong,
            audit_known=only_known(audited.document, game.known),
            accepted=game.traffic.accepted,
            orders_min=game.experiment.ours.orders_min,
            exam=exam["result"] if exam.get("required") else "",
            exam_detail="; ".join(exam.get("reasons", ())),
        )
    )
    return Ending(
        verdict, recovered, exam, audited.document, settle_s + audited.rest_s, audited.took_s
    )


def _recheck(game: Game, before: bool | None, after: bool | None) -> bool | None:
    """The steady state once chaos is gone; None when there was nothing to recover from."""
    if not before or game.broken:
        return None
    if after is False:
        return False
    with game.timeline.phase("steady state after rollback"):
        return game.wait_steady(RECHECK_S if after else game.experiment.knobs.recovery_s)


def _examine(game: Game, steady_before: bool | None) -> dict[str, Any]:
    """Wait, while orders flow, for alerts that may still fire or stop in time; then mark."""
    ours, watch = game.experiment.ours, game.alerts
    sheet, faults = ours.sheet, _faults_for_exam(game.strikes.struck)
    if sheet is None and not watch.possible:
        return {}

    def pending() -> bool:
        return (
            sheet is not None
            and not game.aborted
            and alerts.worth_waiting(sheet, faults, watch, game.timeline.now_s)
        )

    if watch.possible and steady_before and not game.broken and pending():
        with game.timeline.phase("alert exam"):
            while pending():
                time.sleep(LOOK_S)
    watch.stop()
    found = alerts.document(
        sheet, faults, watch, game.timeline.now_s, required=ours.exam == "required"
    )
    game.timeline.say(f"alert exam: {alerts.sentence(found)}")
    return found


def _end_load(game: Game) -> float:
    """Send no more orders and wait for the last answers; how long that took (s)."""
    began_s = time.monotonic()
    try:
        game.traffic.stop()
    except (TrafficFailed, RuntimeError) as error:
        game.found_broken(str(error))
    took_s = time.monotonic() - began_s
    game.monitor.stop()
    game.meter.stop()
    return took_s


def _audit(game: Game) -> Audit:
    with game.timeline.phase("audit"):
        found = audit(game.target, game.timeline.detail)
    game.timeline.say(f"audit: {found.sentence}")
    return found


def _fault_found(one: Struck) -> FaultFound:
    """What the verdict needs of a fault; one that left something wrong behind is a doubt."""
    if one.after_failed:
        return FaultFound(one.name, "not as it must be afterwards", one.after_failed)
    if one.expired:
        return FaultFound(one.name, "ended by its lease", one.detail)
    return FaultFound(one.name, one.outcome, one.detail)


def _faults_for_exam(struck: Sequence[Struck]) -> list[Fault]:
    """What was broken, for the exam; what was called off was never there."""
    return [
        Fault(one.name, one.began_s, one.ended_s, one.outcome == "proved")
        for one in struck
        if one.outcome != "called off"
    ]
