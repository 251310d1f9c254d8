"""What every form of the report tells: rows and sentences made from the journal. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chaos.gameday.alerts import sentence as sentence_of_exam
from chaos.gameday.measure import quantile

Journal = Mapping[str, Any]
WINDOWS = ("steady state before", "method", "recovery", "steady state after rollback")


def ours_of(journal: Journal) -> Mapping[str, Any]:
    """Our part of the journal."""
    found: Mapping[str, Any] = journal["x-symphony"]
    return found


def sentence(journal: Journal) -> str:
    """The verdict in one line, with its reasons."""
    ours = ours_of(journal)
    word = str(ours["verdict"]).upper()
    told = f"{word}: {'; '.join(ours['reasons'])}" if ours["reasons"] else word
    if not ours["as_expected"]:
        told += f" (expected: {ours['expected']})"
    return told


def fault_rows(journal: Journal) -> list[tuple[str, ...]]:
    """When, what, at whom, outcome, how soon work went on, what proves it."""
    rows: list[tuple[str, ...]] = []
    for one in ours_of(journal)["faults"]:
        lasted = f"{one['began_s']:.1f} to {one['ended_s']:.1f} s"
        recovered = "-" if one["recovered_s"] is None else f"{one['recovered_s']:.1f} s"
        detail = "; afterwards: ".join(filter(None, (one["detail"], one["after_failed"])))
        rows.append((lasted, one["fault"], one["target"], one["outcome"], recovered, detail))
    return rows


def window_rows(journal: Journal) -> list[tuple[str, ...]]:
    """What the client saw in each part: rate accepted, share not accepted, p95, largest backlog."""
    samples = ours_of(journal)["samples"]
    rows: list[tuple[str, ...]] = []
    for name in ("warm-up", "method", "recovery", "steady state after rollback"):
        inside = [one for one in samples if one["phase"] == name]
        if inside:
            label = "before (warm-up)" if name == "warm-up" else name
            rows.append((label, *_window(inside)))
    return rows


def _window(samples: Sequence[Mapping[str, Any]]) -> tuple[str, str, str, str]:
    accepted = sum(one["accepted_per_s"] for one in samples)
    refused = sum(one["refused_per_s"] for one in samples)
    share = refused / (accepted + refused) if accepted + refused else None
    slow = quantile(sorted(one["p95_ms"] for one in samples if one["p95_ms"] is not None), 0.95)
    most = max((one["backlog"] for one in samples if one["backlog"] is not None), default=None)
    return (
        f"{accepted / len(samples):.1f}/s",
        "-" if share is None else f"{share:.1%}",
        "-" if slow is None else f"{slow:,.0f} ms",
        "-" if most is None else f"{most:,}",
    )


def probe_rows(journal: Journal) -> list[tuple[str, ...]]:
    """Each probe of the hypothesis: what is tolerated, what was seen before and after."""
    states = journal.get("steady_states") or {}
    seen = {which: _probes(states.get(which)) for which in ("before", "after")}
    hypothesis = journal["experiment"].get("steady-state-hypothesis", {})
    return [
        (
            one["name"],
            tolerance(one.get("tolerance")),
            seen["before"].get(one["name"], "-"),
            seen["after"].get(one["name"], "-"),
        )
        for one in hypothesis.get("probes", ())
    ]


def tolerance(found: Any) -> str:
    """A tolerance in words."""
    if isinstance(found, Mapping) and "range" in found:
        low, high = found["range"]
        return f"{low:g} to {high:g}"
    return str(found)


def _probes(state: Any) -> dict[str, str]:
    if not state:
        return {}
    return {
        one["activity"]["name"]: f"{one['output']}" + ("" if one["tolerance_met"] else " NOT MET")
        for one in state["probes"]
    }


def guard_sentence(journal: Journal) -> str:
    """How often the guard looked and what it found."""
    armed = [one for one in ours_of(journal)["samples"] if one["guarding"]]
    bad = [one for one in armed if one["bad"]]
    worst = max((one["bad_in_a_row"] for one in armed), default=0)
    limits = ours_of(journal)["guard"]
    told = f"{len(armed)} evaluations, {len(bad)} found too much, at most {worst} in a row"
    return f"{told} ({limits['bad_max']} abort)"


def audit_sentence(journal: Journal) -> str:
    """The auditor's verdict in one line."""
    audit = ours_of(journal)["audit"]
    return str(audit.get("sentence") or "there was no audit")


def load_sentence(journal: Journal) -> str:
    """How many orders there were."""
    load, knobs = ours_of(journal)["load"], ours_of(journal)["knobs"]
    return (
        f"{load['sent']:,} orders sent at {knobs['rate_per_s']:g}/s, {load['accepted']:,} accepted;"
        f" at least {load['orders_min']:,} are needed"
    )


def exam_of(journal: Journal) -> Mapping[str, Any]:
    """The alert exam; empty when the lab had no Prometheus and nothing was asked, or long ago."""
    found: Mapping[str, Any] = ours_of(journal).get("exam") or {}
    return found


def exam_sentence(journal: Journal) -> str:
    """The exam's result in one line; empty without an exam."""
    found = exam_of(journal)
    told = sentence_of_exam(found)
    return f"{told} (required)" if found.get("required") else told


EXAM_HEAD = ("alert", "asked of", "fired after", "allowed", "", "stopped after", "allowed", "")


def exam_rows(journal: Journal) -> list[tuple[str, ...]]:
    """Each expected alert: its fault, when it fired and stopped, and what was allowed; then what
    fired and was not expected.
    """
    found = exam_of(journal)
    rows: list[tuple[str, ...]] = []
    for one in found.get("rows", ()):
        answer = f"{one['answer']} ({one['why']})" if one["why"] else one["answer"]
        if one["alertmanager"] == "inhibited":
            answer += ", inhibited in Alertmanager"
        rows.append(
            (
                one["name"],
                one["fault"],
                _seconds(one["detection_s"]),
                _seconds(one["within_s"]),
                answer,
                _seconds(one["resolved_after_s"]),
                _seconds(one["resolves_within_s"]),
                one["ending"],
            )
        )
    for one in found.get("wrong", ()):
        when = f"from {one['from_s']:.1f} s on"
        until = "-" if one["until_s"] is None else f"until {one['until_s']:.1f} s"
        told = "must stay silent" if one["forbidden"] else "wrong: nobody expected it"
        rows.append((one["name"], "-", when, "-", told, until, "-", ""))
    return rows


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"
