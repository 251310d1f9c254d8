"""What a GameDay proves: a pure function of what was found.

In this order, the first that applies:

1. *failed*: the audit found a violation that did not stand in the lab's books before, or chaos was
   left behind. Neither an abort nor a doubt excuses that.
2. *inconclusive*: the experiment itself broke, or the system was not steady to begin with.
3. *failed*: the system did not come back to its steady state once the chaos was gone.
4. *aborted*: the guard or an operator ended it, and the system came back.
5. *inconclusive*: a fault was not proved, there was none, the audit could not tell, the steady
   state was not looked at, or too few orders were accepted.
6. *failed* or *inconclusive*: the experiment requires its alert exam, and that was failed, or its
   result is not known, or it asked nothing. An exam that is not required changes nothing.
7. *passed*.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Word = Literal["passed", "failed", "aborted", "inconclusive"]
WORDS: tuple[Word, ...] = ("passed", "failed", "aborted", "inconclusive")
EXIT_CODES: dict[Word, int] = {"passed": 0, "failed": 1, "inconclusive": 2, "aborted": 3}


class FaultFound(NamedTuple):
    """What became of one fault: `outcome` is proved, void, skipped, refused or called off."""

    name: str
    outcome: str
    detail: str = ""


class Findings(NamedTuple):
    """All that a verdict rests on. `steady_*` is None when it was not looked at; `audit` is
    `holds`, `violated`, `unknown` or empty without one; `audit_known`: all that it found violated
    stood in these books before this GameDay. `left` names chaos that is still there. `exam` is
    `passed`, `failed`, `unknown` or `nothing asked`, empty when the experiment does not require it.
    """

    steady_before: bool | None = None
    steady_after: bool | None = None
    faults: tuple[FaultFound, ...] = ()
    aborted: str = ""
    broken: str = ""
    left: tuple[str, ...] = ()
    audit: str = ""
    audit_detail: str = ""
    audit_known: bool = False
    accepted: int = 0
    orders_min: int = 1
    exam: str = ""
    exam_detail: str = ""


class Verdict(NamedTuple):
    """The word and why, most important first; `passed` has no reason."""

    word: Word
    reasons: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 passed, 1 failed, 2 inconclusive, 3 aborted."""
        return EXIT_CODES[self.word]


def judge(found: Findings) -> Verdict:
    """The verdict by the table above; it names every reason of the rule that applied."""
    harm = _harm(found)
    if harm:
        return Verdict("failed", harm)
    if found.broken:
        return Verdict("inconclusive", (found.broken,))
    if found.steady_before is False:
        return Verdict("inconclusive", ("the system was not steady before anything was broken",))
    if found.steady_after is False:
        return Verdict("failed", ("the steady state did not come back",))
    if found.aborted:
        return Verdict("aborted", (found.aborted,))
    doubts = _doubts(found)
    if doubts:
        return Verdict("inconclusive", doubts)
    return _examined(found)


def _examined(found: Findings) -> Verdict:
    if found.exam == "failed":
        return Verdict("failed", (f"the alert exam was failed: {found.exam_detail}",))
    if found.exam in ("unknown", "nothing asked"):
        return Verdict("inconclusive", (f"the alert exam has no result: {found.exam_detail}",))
    return Verdict("passed", ())


def _harm(found: Findings) -> tuple[str, ...]:
    reasons = []
    if found.audit == "violated" and not found.audit_known:
        reasons.append(f"the audit found a violation: {found.audit_detail}")
    if found.left:
        reasons.append(f"chaos was left behind: {', '.join(found.left)}")
    return tuple(reasons)


def _doubts(found: Findings) -> tuple[str, ...]:
    reasons = [
        f"{one.name} is {one.outcome}: {one.detail}"
        for one in found.faults
        if one.outcome != "proved"
    ]
    if not found.faults:
        reasons.append("nothing was broken")
    if found.steady_before is None or found.steady_after is None:
        reasons.append("the steady state was not looked at before and after")
    if found.audit_known:
        reasons.append(
            f"the books were violated before this GameDay ({found.audit_detail}): use a fresh lab"
        )
    elif found.audit != "holds":
        reasons.append(f"the audit could not tell: {found.audit_detail or 'there was none'}")
    if found.accepted < found.orders_min:
        reasons.append(f"only {found.accepted} orders were accepted, {found.orders_min} are needed")
    return tuple(reasons)
