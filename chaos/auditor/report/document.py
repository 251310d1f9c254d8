"""The verdict as plain data; what `--json` prints and every other rendering is made from."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from chaos.auditor.audit import Options
from chaos.auditor.invariants import Kind
from chaos.auditor.sources import Sources
from chaos.auditor.verdict import Finding, Verdict, Witness

FORMAT = 2
_PASSWORD = re.compile(r"(://[^:/@]*):[^@]*(?=@)")


def document(
    verdict: Verdict, *, sources: Sources, options: Options, at: datetime
) -> dict[str, Any]:
    """Return the whole verdict as a JSON-ready document: when it was made and of what, too.

    The password of PostgreSQL's address is left out.
    """
    return {
        "at": at.isoformat(timespec="seconds"),
        "sources": {
            "PostgreSQL": _PASSWORD.sub(r"\1", sources.dsn),
            "Kafka": sources.bootstrap,
            "namespace": sources.namespace,
            "load ledgers": [str(path) for path in sources.load_ledgers],
            "gateway ledger": str(sources.gateway_ledger or ""),
            "nemesis ledger": str(sources.nemesis_ledger or ""),
            "notification sink": str(sources.notifications or ""),
        },
        "options": {
            "deadline_s": options.deadline_s,
            "barriers": options.barriers,
            "memory_mb": options.memory_mb,
        },
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
