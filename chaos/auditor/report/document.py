"""The verdict as plain data; what `--json` prints and every other rendering is made from."""

from __future__ import annotations

from typing import Any

from chaos.auditor.invariants import Kind
from chaos.auditor.verdict import Finding, Verdict, Witness

FORMAT = 1


def document(verdict: Verdict) -> dict[str, Any]:
    """Return the whole verdict as a JSON-ready document."""
    return {
        "format": FORMAT,
        "result": verdict.result,
        "exit_code": verdict.exit_code,
        "safety": verdict.of(Kind.SAFETY),
        "liveness": verdict.of(Kind.LIVENESS),
        "unrest": verdict.unrest,
        "unread": dict(verdict.unread),
        "invariants": [_finding(one) for one in verdict.findings],
        **verdict.facts,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "id": finding.invariant.id,
        "title": finding.invariant.title,
        "kind": finding.invariant.kind.value,
        "state": finding.state.value,
        "examined": finding.examined,
        "violations": finding.violations,
        "missing": finding.missing,
        "witnesses": [_witness(one) for one in finding.witnesses],
    }


def _witness(witness: Witness) -> dict[str, Any]:
    return {
        "item": witness.item,
        "order_id": witness.order_id,
        "wrong": witness.wrong,
        "timeline": [one._asdict() for one in witness.timeline],
    }
