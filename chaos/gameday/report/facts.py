"""What every form of the report tells: rows and sentences made from the journal. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chaos.gameday.alerts import sentence as sentence_of_exam
from chaos.gameday.measure import quantile

Journal = Mapping[str, Any]
ENDING = ("settle", "audit", "report")


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
    elif ours["verdict"] != "passed":
        told += " (as expected)"
    return told


FAULT_HEAD = ("when", "fault", "at", "outcome", "works again after its end", "what was seen")


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


def rollback_sentence(journal: Journal) -> str:
    """The last look at the steady state, which is the verdict's; empty in an old journal."""
    ours = ours_of(journal)
    if "steady_after_rollback" not in ours:
        return ""
    words = {True: "it came back", False: "it did not come back", None: "it was not looked at"}
    return f"After the rollback: {words[ours['steady_after_rollback']]}."


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
    return f"{told} ({limits['bad_max']} in a row abort)"


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


def ending_sentence(journal: Journal) -> str:
    """How long it took from the last phase of the experiment to the report; empty in old ones."""
    ours = ours_of(journal)
    parts = [(name, ours.get(f"{name}_s")) for name in ENDING]
    told = [f"{name} {took:.1f} s" for name, took in parts if took is not None]
    whole = sum(took for _, took in parts if took is not None)
    return f"{', '.join(told)}: {whole:.1f} s" if told else ""


def exam_of(journal: Journal) -> Mapping[str, Any]:
    """The alert exam; empty when the lab had no Prometheus and nothing was asked, or long ago."""
    found: Mapping[str, Any] = ours_of(journal).get("exam") or {}
    return found


def exam_sentence(journal: Journal) -> str:
    """The exam's result in one line; empty without an exam."""
    found = exam_of(journal)
    told = sentence_of_exam(found)
    return f"{told} (required)" if found.get("required") else told


EXAM_HEAD = ("alert", "it had to", "mark", "what was seen")

EXAM_LEGEND = (
    "Whether an operator would have been told in time, by the real rules in a real Prometheus."
    " Right: the alert did what it had to. Late, missing, stopped late, still firing: it did not."
    " Unexpected: it fired, and nobody needed it. Unknown: nothing was seen when it mattered."
    " Not marked: it may fire, or did so before anything was broken."
)

FIRED = {"in time": "", "before": "before the fault"}
STOPPED = {"in time": "", "not asked": "", "late": "stopped late", "unknown": "end unknown"}
"""What is said of a question's two answers, where it is not the answer itself."""


def exam_rows(journal: Journal) -> list[tuple[str, ...]]:
    """A row per alert in words: what it had to do, whether that was right, and what was seen.

    Expected alerts come first, then those that nobody expected, those that had to stay silent, and
    those that fired and are not marked.
    """
    found, faults = exam_of(journal), ours_of(journal)["faults"]
    expected, wrong = found.get("rows", ()), found.get("wrong", ())
    silent = [one for one in found.get("silent", ()) if one["answer"] != "fired"]
    rows: list[tuple[str, ...]] = [
        (one["name"], _had_to(one), exam_mark(one), _seen(one)) for one in expected
    ]
    for one in wrong:
        had_to = "stay silent" if one["forbidden"] else "- (nobody expected it)"
        rows.append((one["name"], had_to, "unexpected", _when(one, faults)))
    for one in silent:
        right = one["answer"] == "silent"
        seen = "did not fire" if right else one["why"]
        rows.append((one["name"], "stay silent", "right" if right else "unknown", seen))
    told = {one[0] for one in rows}
    standing = found.get("standing", ())
    for one in found.get("firings", ()):
        if one["name"] not in told:
            told.add(one["name"])
            had_to = "- (fired before)" if one["name"] in standing else "- (it may fire)"
            rows.append((one["name"], had_to, "not marked", _when(one, faults)))
    return rows


def exam_mark(row: Mapping[str, Any]) -> str:
    """The mark of one expected alert: right, late, missing, unknown ..."""
    fired = FIRED.get(row["answer"], row["answer"])
    stopped = "" if row["answer"] == "unknown" else STOPPED.get(row["ending"], row["ending"])
    return ", ".join(filter(None, (fired, stopped))) or "right"


def _had_to(row: Mapping[str, Any]) -> str:
    had_to = f'fire within {row["within_s"]:g} s of "{row["fault"]}"'
    if row["resolves_within_s"] is None:
        return had_to
    return f"{had_to} and stop within {row['resolves_within_s']:g} s of its end"


def _seen(row: Mapping[str, Any]) -> str:
    """When an expected alert fired and stopped, counted from its fault."""
    parts = []
    if row["detection_s"] is not None:
        parts.append(f"fired {row['detection_s']:.1f} s after the fault's beginning")
    elif row["answer"] == "missing":
        parts.append("did not fire")
    if row["resolved_after_s"] is not None:
        parts.append(f"stopped {row['resolved_after_s']:.1f} s after its end")
    elif row["ending"] == "still firing":
        parts.append("did not stop")
    if row["why"]:
        parts.append(row["why"])
    if row["alertmanager"] == "inhibited":
        parts.append("held back by Alertmanager, because a page of its area fired")
    return ", ".join(parts)


def _when(one: Mapping[str, Any], faults: Sequence[Mapping[str, Any]]) -> str:
    """When something fired, counted from the newest fault before it."""
    before = [fault for fault in faults if fault["began_s"] <= one["from_s"]]
    fault = max(before, key=lambda fault: fault["began_s"], default=None)
    if fault is None:
        told = f"fired {one['from_s']:.1f} s after the GameDay's beginning"
    else:
        after_s = one["from_s"] - fault["began_s"]
        told = f'fired {after_s:.1f} s after the beginning of "{fault["name"]}"'
    if one["until_s"] is None:
        return f"{told}, and did not stop"
    return f"{told}, for {one['until_s'] - one['from_s']:.1f} s"
