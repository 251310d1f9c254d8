"""What a campaign found, as tables. Pure."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from app.roles import ROLES
from chaos.auditor.report.text import columns
from chaos.campaign.book import Injected, RunResult
from chaos.nemesis.faults import REGISTRY
from chaos.nemesis.recovery import sign_of
from chaos.nemesis.world import role_of

HEAD = (
    *("fault (at)", "targets", "proved", "void", "skipped", "recovery p50", "p95", "max"),
    *("not seen", "alone", "p95 alone"),
)
"""`alone` counts recoveries without another fault beside, for whose end one may wait."""


class Totals(NamedTuple):
    """A whole campaign in numbers."""

    runs: int
    held: int
    violated: int
    unknown: int
    orders: int
    unknown_answers: int
    injections: int
    proved: int
    void: int
    skipped: int
    expired: int
    after_failed: int
    kinds: int
    pairs: int


def totals(runs: Sequence[RunResult]) -> Totals:
    """Count everything once; orders are those accepted in each run.

    `expired` and `after_failed` count among all injections, `kinds` and `pairs` among the proved.
    """
    injected = [one for run in runs for one in run.injections]
    proved = [one for one in injected if one.outcome == "proved"]
    results = [run.result for run in runs]
    return Totals(
        runs=len(runs),
        held=results.count("holds"),
        violated=results.count("violated"),
        unknown=results.count("unknown"),
        orders=sum(run.accepted for run in runs),
        unknown_answers=sum(run.unknown for run in runs),
        injections=len(injected),
        proved=len(proved),
        void=sum(one.outcome not in ("proved", "skipped") for one in injected),
        skipped=sum(one.outcome == "skipped" for one in injected),
        expired=sum(one.expired for one in injected),
        after_failed=sum(bool(one.after_failed) for one in injected),
        kinds=len({one.fault for one in proved}),
        pairs=len({(one.fault, one.target) for one in proved}),
    )


def by_fault(runs: Iterable[RunResult]) -> list[tuple[str, ...]]:
    """One row a fault and class of targets, with the times of recovery that were seen."""
    found: defaultdict[tuple[str, str], list[tuple[Injected, bool]]] = defaultdict(list)
    for run in runs:
        for one in run.injections:
            found[one.fault, class_of(one.target)].append((one, _alone(one, run)))
    return [_row(*names, listed) for names, listed in sorted(found.items())]


def class_of(target: str) -> str:
    """What kind of thing a target is: worker, role, proxy, broker, postgres, gateway, or itself."""
    if role_of(target) in ROLES:
        return "worker"
    if target in ROLES:
        return "role"
    return "proxy" if target.endswith("-proxy") else target.removesuffix("-sim")


def _alone(one: Injected, run: RunResult) -> bool:
    """Whether no other fault of the run, nor its recovery, overlapped this one's."""
    return not any(
        other.started_s < _until_s(one) and one.started_s < _until_s(other)
        for other in run.injections
        if other is not one
    )


def _until_s(one: Injected) -> float:
    """When it had ended and was recovered from, at the latest."""
    return one.started_s + one.lasted_s + (one.recovered_s or 0.0)


def _row(fault: str, at: str, listed: Sequence[tuple[Injected, bool]]) -> tuple[str, ...]:
    proved = [(one, alone) for one, alone in listed if one.outcome == "proved"]
    waited = [(one, alone) for one, alone in proved if _waited_for(one)]
    times = sorted(one.recovered_s for one, _ in waited if one.recovered_s is not None)
    alone_times = sorted(
        one.recovered_s for one, alone in waited if alone and one.recovered_s is not None
    )
    skipped = sum(one.outcome == "skipped" for one, _ in listed)
    return (
        f"{fault} ({at})",
        str(len({one.target for one, _ in listed})),
        str(len(proved)),
        str(len(listed) - len(proved) - skipped),
        str(skipped),
        *(f"{value:.2f} s" if times else "-" for value in _quantiles(times)),
        str(len(waited) - len(times)) if REGISTRY[fault].recovers_from != "none" else "-",
        str(len(alone_times)) if times else "-",
        f"{_quantiles(alone_times)[1]:.2f} s" if alone_times else "-",
    )


def _waited_for(one: Injected) -> bool:
    """Whether its recovery is told: what has no steady work shows none."""
    return REGISTRY[one.fault].recovers_from != "none" and sign_of(one.target) is not None


def _quantiles(times: Sequence[float]) -> tuple[float, float, float]:
    if not times:
        return 0.0, 0.0, 0.0
    # nearest rank: the smallest time that 95 % do not exceed
    rank = max(0, -(-len(times) * 95 // 100) - 1)
    return statistics.median(times), times[rank], times[-1]


def text(runs: Sequence[RunResult], replay: str) -> str:
    """Everything for a terminal; `replay` is the command of one run with `{number}` in it."""
    lines = [*sentences(runs), *not_covered(runs), *failed(runs, replay), *exceptions(runs)]
    return "\n".join([columns([HEAD, *by_fault(runs)]), "", *lines])


def not_covered(runs: Sequence[RunResult]) -> list[str]:
    """What no run could do, each cell once, with the last reason."""
    proved = {(one.fault, one.target) for run in runs for one in run.injections
              if one.outcome == "proved"}  # fmt: skip
    reasons = {(one.fault, one.target): one.reason for run in runs for one in run.not_covered}
    return [
        f"not possible here, so not covered: {fault} at {target}: {reason}"
        for (fault, target), reason in sorted(reasons.items())
        if (fault, target) not in proved
    ]


def failed(runs: Sequence[RunResult], replay: str) -> list[str]:
    """Every run that does not hold, with the command that repeats it."""
    told = []
    for run in runs:
        if run.result != "holds":
            command = replay.replace("{number}", str(run.number))
            told.append(f"run {run.number} (seed {run.seed}) {_why(run)}: repeat it by `{command}`")
    return told


def exceptions(runs: Sequence[RunResult]) -> list[str]:
    """Every injection that did not go as meant: without proof, or not ended in good order."""
    told = []
    for run in runs:
        for one in run.injections:
            name = f"run {run.number}: {one.fault} at {one.target}"
            if one.outcome != "proved":
                told.append(f"{name} is {one.outcome}: {one.detail}")
            if one.expired:
                told.append(f"{name} is {one.outcome} but expired: its lease ended it")
            if one.after_failed:
                told.append(f"{name} is {one.outcome}, but after its end: {one.after_failed}")
    return told


def sentences(runs: Sequence[RunResult]) -> list[str]:
    """The campaign in a few lines; zero in n is not zero, so the bound is said."""
    sums = totals(runs)
    told = [
        (
            f"{sums.runs} runs: {sums.held} hold, {sums.violated} violated, {sums.unknown} unknown;"
            f" {sums.orders:,} orders accepted, {sums.unknown_answers:,} answers unknown"
        ),
        (
            f"{sums.injections} injections of {sums.kinds} kinds at {sums.pairs} (fault, target)"
            f" pairs: {sums.proved} proved their effect, {sums.void} did not and count for nothing,"
            f" {sums.skipped} could not be done"
        ),
    ]
    if sums.expired or sums.after_failed:
        told.append(
            f"not ended in good order, although a proof counts: {sums.expired} expired,"
            f" {sums.after_failed} left something wrong behind (listed below)"
        )
    if sums.runs and not sums.violated:
        told.append(
            f"no violation in {sums.runs} runs: with 95 % confidence at most"
            f" {min(1.0, 3 / sums.runs):.1%} of such runs violate anything (3/n)"
        )
    return told


def _why(run: RunResult) -> str:
    found = ", ".join(run.violated) or run.unrest
    return f"is {run.result}" + (f" ({found})" if found else "")


def markdown(runs: Sequence[RunResult], replay: str, command: str, machine: str, date: str) -> str:
    """The published form, with what is needed to repeat it; `replay` as in `text`."""
    head = "| " + " | ".join(HEAD) + " |"
    rule = "|" + "---|" * len(HEAD)
    rows = ["| " + " | ".join(row) + " |" for row in by_fault(runs)]
    return "\n".join(
        [
            "# Campaign",
            "",
            f"`{command}`, {date}, {machine}.",
            "",
            *(f"- {line}" for line in (*sentences(runs), *failed(runs, replay))),
            "",
            head,
            rule,
            *rows,
            "",
            *(f"- {line}" for line in (*not_covered(runs), *exceptions(runs))),
            "",
        ]
    )
