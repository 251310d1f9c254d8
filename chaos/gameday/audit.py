"""The audit at the end of a GameDay, and what of it was found there before. Shapes are those of
the auditor's document (docs/audit.md).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from chaos.audit import AuditFailed, run_audit
from chaos.gameday.timeline import Say
from chaos.lab.process import LabError
from chaos.workload.target import Target

REST_DEADLINE_S = 180.0


class Audit(NamedTuple):
    """What the auditor said, and how long it took: to wait for rest, and then to read and judge
    all books. `document` is empty without an audit; one that broke off has `result` unknown and
    only a `sentence` beside it, and `took_s` is None for both.
    """

    document: Mapping[str, Any]
    rest_s: float = 0.0
    took_s: float | None = None

    @property
    def result(self) -> str:
        """`holds`, `violated`, `unknown`, or empty without one."""
        return str(self.document.get("result", ""))

    @property
    def sentence(self) -> str:
        """The whole in one line; empty without one."""
        return str(self.document.get("sentence", ""))

    @property
    def first_wrong(self) -> str:
        """The sentence, and the first thing that is wrong with one order."""
        for one in self.document.get("invariants", ()):
            for witness in one["witnesses"]:
                if order := witness["order_id"]:
                    return f"{self.sentence} ({one['id']}: order {order}: {witness['wrong']})"
        return self.sentence


NO_AUDIT = Audit({})


def audit(target: Target, progress: Say) -> Audit:
    """Let the auditor read all books of a lab, once it is at rest. Raises nothing: what keeps it
    from a verdict, Ctrl-C included, is the sentence of a result that is unknown.
    """
    began_s = time.monotonic()
    try:
        done = run_audit(target, target.ledgers(), deadline_s=REST_DEADLINE_S, progress=progress)
    except (AuditFailed, LabError, OSError) as error:
        return Audit({"result": "unknown", "sentence": str(error)})
    except KeyboardInterrupt:
        return Audit({"result": "unknown", "sentence": "it was broken off"})
    rest_s = float(done.document["rest_s"])
    return Audit(
        {**done.document, "sentence": done.sentence},
        rest_s=rest_s,
        took_s=time.monotonic() - began_s - rest_s,
    )


def violations(document: Mapping[str, Any]) -> dict[str, int]:
    """How often each violated invariant is violated."""
    found = document.get("invariants", ())
    return {one["id"]: one["violations"] for one in found if one["violations"]}


def only_known(document: Mapping[str, Any], known: Mapping[str, int]) -> bool:
    """Whether an audit found violations, and none that is not `known` of these books: an audit is
    of all that a lab has ever done.
    """
    found = violations(document)
    return bool(found) and all(count <= known.get(name, 0) for name, count in found.items())
