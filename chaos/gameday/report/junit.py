"""The report as JUnit XML, so that any CI shows it: steady states, faults, audit, verdict. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from chaos.gameday.report import facts
from chaos.gameday.report.facts import Journal


def junit(journal: Journal) -> str:
    """Return the XML text: failed is a failure, inconclusive or aborted an error."""
    ours = facts.ours_of(journal)
    suite = ElementTree.Element("testsuite", name=f"gameday {ours['experiment']}")
    steady = journal.get("steady_states") or {}
    _case(suite, "steady state before", _steady(steady.get("before")))
    for when, fault, target, outcome, _, detail in facts.fault_rows(journal):
        problem = None if outcome == "proved" else ("error", f"{outcome}: {detail}")
        _case(suite, f"{fault} {target} {when}".replace("  ", " "), problem)
    _case(suite, "steady state after", _steady(steady.get("after")))
    for name, problem in _exam(journal):
        _case(suite, name, problem)
    audit = ours["audit"]
    kind = "failure" if audit.get("result") == "violated" else "error"
    holds = audit.get("result") == "holds"
    _case(suite, "audit", None if holds else (kind, facts.audit_sentence(journal)))
    kind = "failure" if ours["verdict"] == "failed" else "error"
    passed = ours["verdict"] == "passed"
    _case(suite, "verdict", None if passed else (kind, facts.sentence(journal)))
    suite.set("tests", str(len(suite)))
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(len(suite.findall(f"testcase/{tag}"))))
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _exam(journal: Journal) -> Iterator[tuple[str, tuple[str, str] | None]]:
    """A case per question of the alert exam; one that is not required fails no build."""
    found = facts.exam_of(journal)
    if not found:
        return
    if not found["sat"]:
        kind = "error" if found["required"] else "skipped"
        yield "alert exam", (kind, "; ".join(found["reasons"]))
        return
    for one in found["rows"]:
        asked = [("fires", one["answer"]), ("stops", one["ending"])]
        for what, answer in asked:
            if answer != "not asked":
                yield f"alert {one['name']} {what}", _marked(answer, one["why"], found["required"])
    for one in found.get("silent", ()):
        if one["answer"] != "fired":  # those are among the wrong ones
            kept = "in time" if one["answer"] == "silent" else one["answer"]
            yield f"alert {one['name']} stays silent", _marked(kept, one["why"], found["required"])
    for one in found["wrong"]:
        yield f"alert {one['name']} stays silent", _marked("fired", "", found["required"])
    if found["result"] == "nothing asked":
        yield "alert exam", _marked("unknown", "; ".join(found["reasons"]), found["required"])


def _marked(answer: str, why: str, required: bool) -> tuple[str, str] | None:
    if answer == "in time":
        return None
    told = f"{answer}: {why}" if why else answer
    if not required:
        return ("skipped", f"{told} (the exam is not required)")
    return ("error" if answer == "unknown" else "failure", told)


def _case(suite: ElementTree.Element, name: str, problem: tuple[str, str] | None) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname="gameday", name=_clean(name))
    if problem is not None:
        ElementTree.SubElement(case, problem[0], message=_clean(problem[1]))


def _steady(state: Any) -> tuple[str, str] | None:
    if not state:
        return ("skipped", "it was not looked at")
    if state["steady_state_met"]:
        return None
    last = state["probes"][-1]
    return ("failure", f"{last['activity']['name']}: {last.get('output')}")


def _clean(told: str) -> str:
    """XML 1.0 has no control characters; what was seen may be junk."""
    return "".join(char if char.isprintable() else " " for char in told)
