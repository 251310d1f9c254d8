"""What a load came to: counts by class and outcome, latency quantiles from the intended time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from chaos.workload.ledger import Kind, Line

QUANTILES = (0.5, 0.9, 0.99)


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of order requests and the latency of answered ones, milliseconds.

    All but `cancels`, `repeats` and `conflicts` (counts by outcome) is about first requests.

    `achieved_per_s` is how fast the requests left; below the wanted rate the generator itself was
    too slow and its latencies say less.
    """

    requests: int
    ok: int
    fail: int
    unknown: int
    by_class: dict[str, int]
    cancels: dict[str, int]
    repeats: dict[str, int]
    conflicts: dict[str, int]
    latency_ms: dict[str, float]
    achieved_per_s: float
    details: dict[str, int]
    ledger: str


def summarize(lines: Sequence[Line], ledger: str) -> Summary:
    """Return the summary of the returned lines of one load."""
    creates = [line for line in lines if line.kind == "create"]
    outcomes = Counter(line.outcome for line in creates)
    answered = sorted((line.returned_s - line.intended_s) * 1000 for line in creates if line.status)
    sent = sorted(line.sent_s for line in creates if line.sent_s)
    noted = [line for line in lines if line.kind in ("create", "cancel")]
    span_s = sent[-1] - sent[0] if len(sent) > 1 else 0.0
    return Summary(
        requests=len(creates),
        ok=outcomes["ok"],
        fail=outcomes["fail"],
        unknown=outcomes["unknown"],
        by_class=dict(Counter(line.expected for line in creates)),
        cancels=_outcomes(lines, "cancel"),
        repeats=_outcomes(lines, "repeat"),
        conflicts=_outcomes(lines, "conflict"),
        latency_ms=quantiles(answered),
        achieved_per_s=round((len(sent) - 1) / span_s, 1) if span_s else 0.0,
        details=dict(Counter(line.detail for line in noted if line.detail).most_common(5)),
        ledger=ledger,
    )


def _outcomes(lines: Sequence[Line], kind: Kind) -> dict[str, int]:
    return dict(Counter(line.outcome for line in lines if line.kind == kind))


def quantiles(ordered: Sequence[float]) -> dict[str, float]:
    """Return p50, p90, p99 and max of ascending values (nearest rank); empty without values."""
    if not ordered:
        return {}
    ranks = {f"p{q * 100:g}": ordered[min(len(ordered) - 1, int(q * len(ordered)))]
             for q in QUANTILES}  # fmt: skip
    return {name: round(value, 1) for name, value in {**ranks, "max": ordered[-1]}.items()}


def text(summary: Summary) -> str:
    """Return the summary for people, a few lines."""
    latency = ", ".join(f"{name} {value:g} ms" for name, value in summary.latency_ms.items())
    classes = ", ".join(f"{name} {count}" for name, count in summary.by_class.items())
    lines = [
        f"{summary.requests} orders sent at {summary.achieved_per_s:g}/s ({classes})",
        f"{summary.ok} accepted, {summary.fail} refused, {summary.unknown} unknown",
        f"latency from the intended time: {latency or 'no answers'}",
    ]
    lines += [f"  {count} x {detail}" for detail, count in summary.details.items()]
    if summary.repeats or summary.conflicts:
        lines.append(
            f"keys used again: same body {_told(summary.repeats)};"
            f" another body {_told(summary.conflicts)}"
        )
    return "\n".join([*lines, f"ledger: {summary.ledger}"])


def _told(outcomes: dict[str, int]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()) or "never"
