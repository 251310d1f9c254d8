"""The verdict as JUnit XML: one test case an invariant, so that any CI shows it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from chaos.auditor.report.text import moment


def junit(document: Mapping[str, Any]) -> str:
    """Return the XML text. Violated is a failure, unknown an error, nothing to check skipped."""
    findings = document["invariants"]
    suite = ElementTree.Element(
        "testsuite",
        name="symphony audit",
        tests=str(len(findings)),
        failures=str(sum(one["state"] == "violated" for one in findings)),
        errors=str(sum(one["state"] == "unknown" for one in findings)),
        skipped=str(sum(one["state"] == "nothing to check" for one in findings)),
    )
    for one in findings:
        case = ElementTree.SubElement(
            suite, "testcase", classname=one["kind"], name=f"{one['id']} {one['title']}"
        )
        ElementTree.SubElement(case, "system-out").text = f"{one['examined']} examined"
        if one["state"] == "violated":
            failure = ElementTree.SubElement(
                case, "failure", message=f"{one['violations']} violations"
            )
            failure.text = _clean(_witnesses(one))
        elif one["state"] == "unknown":
            ElementTree.SubElement(case, "error", message=one["missing"] or "nothing examined")
        elif one["state"] == "nothing to check":
            ElementTree.SubElement(case, "skipped")
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _witnesses(finding: Mapping[str, Any]) -> str:
    lines: list[str] = []
    for one in finding["witnesses"]:
        lines.append(f"{one['item']}: {one['wrong']}")
        lines += [f"  {moment(row)}" for row in one["timeline"]]
    return "\n".join(lines)


def _clean(told: str) -> str:
    """XML 1.0 has no control characters; a witness may quote junk."""
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}"
                   for char in told)  # fmt: skip
