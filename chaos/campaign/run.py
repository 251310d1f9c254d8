"""One run of a campaign: load, faults in lanes beside it, rest, audit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from chaos.audit import Audited, run_audit
from chaos.auditor.report.page import page
from chaos.campaign.book import Injected, RunResult
from chaos.campaign.plan import Planned, RunPlan
from chaos.lab.client import Lab
from chaos.lab.process import LabError
from chaos.nemesis.engine import Injection, Nemesis
from chaos.workload.target import target_of
from chaos.workload.traffic import Traffic

WARM_ORDERS = 20
WARM_TIMEOUT_S = 60.0
REST_DEADLINE_S = 180.0

Say = Callable[[str], None]


class Interrupted(Exception):
    """The campaign is to end; this run counts for nothing."""


def run(
    lab: Lab,
    plan: RunPlan,
    *,
    lab_number: int,
    rate: float,
    orders: int,
    report_dir: Path,
    stop: threading.Event,
    say: Say,
) -> RunResult:
    """Do everything of `plan` while orders flow, then audit all that this lab has seen.

    At least `orders` orders are sent. Raises Interrupted once `stop` is set, TrafficFailed and
    AuditFailed for a run without a verdict.
    """
    began, at = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    nemesis = Nemesis(lab, seed=0)
    with Traffic(target_of(lab), rate_per_s=rate, seed=plan.seed) as traffic:
        traffic.flow(WARM_ORDERS, timeout_s=WARM_TIMEOUT_S)
        injections = _strike(nemesis, plan, stop, say)
        while traffic.sent < orders and not stop.is_set():
            traffic.check()
            stop.wait(0.2)
    if stop.is_set():
        raise Interrupted
    audit_began = time.monotonic()
    target = target_of(lab)
    audited = run_audit(target, target.ledgers(), deadline_s=REST_DEADLINE_S, progress=say)
    if audited.exit_code:
        path = report_dir / f"run-{plan.number}.html"
        path.write_text(page(audited.document))
        say(f"{audited.sentence}; see {path}")
    creates = traffic.creates
    outcomes = [line.outcome for line in creates]
    return _result(
        plan, lab_number, at, time.monotonic() - began, outcomes, injections, audited,
        time.monotonic() - audit_began,
    )  # fmt: skip


def _strike(nemesis: Nemesis, plan: RunPlan, stop: threading.Event, say: Say) -> list[Injected]:
    """Run all lanes; an error in one ends the others, too, by `stop`."""
    with ThreadPoolExecutor(max_workers=max(1, len(plan.lanes))) as pool:
        lanes = [pool.submit(_lane, nemesis, lane, stop, say) for lane in plan.lanes.values()]
        try:
            return [one for lane in lanes for one in lane.result()]
        except BaseException:
            stop.set()
            raise


def _lane(
    nemesis: Nemesis, lane: tuple[Planned, ...], stop: threading.Event, say: Say
) -> list[Injected]:
    done = []
    for planned in lane:
        if stop.wait(planned.pause_s):
            break
        action = planned.action
        try:
            injection = nemesis.run(action, stop)
        except LabError as error:
            one = Injected(
                fault=action.fault, target=action.target, outcome="refused", detail=error.detail
            )
        else:
            one = _injected(injection)
        done.append(one)
        say(_told(one))
    return done


def _injected(one: Injection) -> Injected:
    return Injected(
        fault=one.fault,
        target=one.target,
        outcome=one.outcome,
        detail=one.detail[:500],
        started_s=round(one.started_s, 3),
        lasted_s=round(one.ended_s - one.started_s, 3),
        recovered_s=None if one.recovered_s is None else round(one.recovered_s, 3),
        expired=one.expired,
        after_failed=one.after_failed[:500],
    )


def _told(one: Injected) -> str:
    told = f"{one.fault} at {one.target}: {one.outcome}"
    if one.expired:
        told += ", but its lease ended it"
    if one.after_failed:
        told += f", but afterwards: {one.after_failed}"
    if one.outcome != "proved":
        return f"{told}: {one.detail}"
    if one.recovered_s is None:
        return told
    return f"{told}, recovered after {one.recovered_s:.1f} s"


def _result(
    plan: RunPlan,
    lab_number: int,
    at: str,
    seconds: float,
    outcomes: Sequence[str],
    injections: list[Injected],
    audited: Audited,
    audit_s: float,
) -> RunResult:
    found = audited.document
    return RunResult(
        number=plan.number,
        seed=plan.seed,
        lab=lab_number,
        at=at,
        seconds=round(seconds, 1),
        accepted=outcomes.count("ok"),
        refused=outcomes.count("fail"),
        unknown=outcomes.count("unknown"),
        injections=injections,
        result=found["result"],
        violated=audited.violated,
        unrest=found["unrest"],
        orders_audited=found["orders"],
        records_audited=found["records"],
        repeated=found["repeated"],
        dead_letters=found["dead_letters"],
        parked=found["parked"],
        audit_s=round(audit_s, 1),
        examined={one["id"]: one["examined"] for one in found["invariants"]},
    )
