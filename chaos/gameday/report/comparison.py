"""Two GameDays side by side. Pure."""

from __future__ import annotations

from chaos.gameday.report import facts
from chaos.gameday.report.facts import Journal


def rows(first: Journal, second: Journal) -> list[tuple[str, str, str]]:
    """Figure, of the first, of the second; `-` where one has none."""
    left, right = _figures(first), _figures(second)
    return [(name, left.get(name, "-"), right.get(name, "-")) for name in {**left, **right}]


def differs(first: Journal, second: Journal) -> bool:
    """Whether they came to different verdicts."""
    return bool(facts.ours_of(first)["verdict"] != facts.ours_of(second)["verdict"])


def _figures(journal: Journal) -> dict[str, str]:
    ours = facts.ours_of(journal)
    found = {
        "run": str(ours["run_id"])[:8],
        "experiment": str(ours["experiment"]),
        "plan (digest)": str(ours["digest"])[:12],
        "verdict": str(ours["verdict"]),
        "reasons": "; ".join(ours["reasons"]) or "-",
        "audit": str(ours["audit"].get("result", "none")),
        "seed": str(ours["knobs"]["seed"]),
        "orders accepted": f"{ours['load']['accepted']:,} of {ours['load']['sent']:,}",
    }
    for name, accepted, refused, p95, most in facts.window_rows(journal):
        found |= {
            f"{name}: accepted": accepted,
            f"{name}: not accepted": refused,
            f"{name}: p95": p95,
            f"{name}: most under way": most,
        }
    if exam := facts.exam_of(journal):
        score = "" if exam["score"] is None else f", {exam['score']:.0%} right"
        found["alert exam"] = f"{exam['result']}{score}"
        for one in exam.get("rows", ()):
            took = one["detection_s"]
            found[f"{one['name']} fired after"] = (
                one["answer"] if took is None else f"{took:.1f} s ({one['answer']})"
            )
        for one in exam.get("wrong", ()):
            found[f"{one['name']} fired wrongly"] = f"at {one['from_s']:.1f} s"
    for when, fault, target, outcome, recovered, _ in facts.fault_rows(journal):
        del when
        again = "" if recovered == "-" else f", works again {recovered} after its end"
        found[f"{fault} at {target}"] = f"{outcome}{again}"
    return found
