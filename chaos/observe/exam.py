"""The alert exam: did the right alerts fire soon enough, and did they go again? Pure.

A fault is the question, the alert that an operator would need is the answer. An experiment says
which alerts it expects of which fault, and which must stay silent; the rest of what fired is wrong
unless it is tolerated.

What was not seen is unknown, never right and never wrong: a fault that was not proved, a Prometheus
that was away when it mattered, an observation that ended too early. The exam as a whole is *failed*
when anything is wrong, else *nothing asked* when no alert had to fire and none to stay silent, else
*unknown* when anything is unknown, else *passed*: nothing is passed without a right answer. All
times are seconds from the beginning of the GameDay; a detection time counts from its fault's
beginning.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec

AlertName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]
Within = Annotated[float, msgspec.Meta(gt=0, le=3_600)]

Answer = Literal["in time", "late", "missing", "before", "unknown"]
Ending = Literal["in time", "late", "still firing", "unknown", "not asked"]
Silent = Literal["silent", "fired", "unknown"]
Result = Literal["passed", "failed", "unknown", "nothing asked"]

NOTHING_ASKED = "no alert had to fire, and none to stay silent"
NOT_SAT = "the alert exam was not sat: start the lab with --observe"


class Expected(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One alert that must fire within `within_s` of the beginning of its fault, and stop within
    `resolves_within_s` of the fault's end; without that nobody asks when it stops. `fault` is the
    name of the activity in the method; without it, it is the first fault of all.
    """

    name: AlertName
    within_s: Within
    resolves_within_s: Within | None = None
    fault: str | None = None


class Sheet(NamedTuple):
    """What an experiment asks: expected alerts, tolerated ones, ones that must stay silent."""

    expected: tuple[Expected, ...] = ()
    tolerated: frozenset[str] = frozenset()
    silent: tuple[str, ...] = ()

    @property
    def asked(self) -> frozenset[str]:
        """The alerts that must fire or stay silent."""
        return frozenset((*(one.name for one in self.expected), *self.silent))


class Fault(NamedTuple):
    """One fault as it was: `proved` says that it had an effect."""

    name: str
    began_s: float
    ended_s: float
    proved: bool


class Firing(NamedTuple):
    """One alert from its first to its last moment; `until_s` is None while it goes on."""

    name: str
    from_s: float
    until_s: float | None
    severity: str = ""


class Span(NamedTuple):
    """A while."""

    from_s: float
    until_s: float


class Observation(NamedTuple):
    """What was seen: firings in any order, from when to when, and where nothing was seen."""

    firings: tuple[Firing, ...]
    seen: Span
    gaps: tuple[Span, ...] = ()


class Row(NamedTuple):
    """What became of one expected alert."""

    name: str
    fault: str
    within_s: float
    answer: Answer
    detection_s: float | None
    resolves_within_s: float | None
    ending: Ending
    resolved_after_s: float | None
    times: int
    why: str = ""

    @property
    def points(self) -> tuple[int, int]:
        """Right answers and questions, unknown ones left out."""
        asked = [self.answer, *([self.ending] if self.ending != "not asked" else [])]
        known = [one for one in asked if one != "unknown"]
        return sum(one == "in time" for one in known), len(known)


class Silence(NamedTuple):
    """What became of one alert that had to stay silent."""

    name: str
    answer: Silent
    why: str = ""

    @property
    def points(self) -> tuple[int, int]:
        """Right answers and questions, unknown ones left out."""
        return int(self.answer == "silent"), int(self.answer != "unknown")


class Wrong(NamedTuple):
    """An alert that fired although nobody expected it; `forbidden` had to stay silent."""

    name: str
    severity: str
    from_s: float
    until_s: float | None
    forbidden: bool


class Marks(NamedTuple):
    """The judged exam. `score` is the share of right answers among all known ones, an alert that
    nobody expected being a wrong answer; None without any. `standing` fired before anything was
    broken, and tells nothing of the faults when it fires again.
    """

    result: Result
    score: float | None
    rows: tuple[Row, ...]
    silent: tuple[Silence, ...]
    wrong: tuple[Wrong, ...]
    standing: tuple[str, ...]
    reasons: tuple[str, ...]


def judge(sheet: Sheet, faults: Sequence[Fault], seen: Observation) -> Marks:
    """Mark one exam."""
    rows = tuple(_row(one, sheet, faults, seen) for one in sheet.expected)
    began_s = min((one.began_s for one in faults), default=seen.seen.until_s)
    known = {one.name for one in sheet.expected} | sheet.tolerated
    standing = tuple(sorted({one.name for one in seen.firings if _covers(one, began_s)}))
    wrong = _wrong(sheet, known | {*standing}, began_s, seen)
    gap = _gap_in(began_s, seen.seen.until_s, seen)
    unheard = f"what fired {_span(gap)} was not seen" if gap else ""
    doubt = unheard if any(one.proved for one in faults) else "no fault was proved"
    silent = tuple(_silence(name, wrong, standing, doubt) for name in sheet.silent)
    points = [*(one.points for one in rows), *(one.points for one in silent)]
    right = sum(one for one, _ in points)
    asked = sum(one for _, one in points) + sum(not one.forbidden for one in wrong)
    answers = {*(one.answer for one in rows), *(one.answer for one in silent)}
    unknown = bool(gap) or "unknown" in {*answers, *(one.ending for one in rows)}
    result = _result(sheet, failed=right < asked, unknown=unknown)
    reasons = dict.fromkeys(
        (*_reasons(rows), *map(_wrong_reason, wrong), *_silent_reasons(silent, doubt), unheard)
    )
    told = (NOTHING_ASKED,) if result == "nothing asked" else tuple(filter(None, reasons))
    return Marks(result, right / asked if asked else None, rows, silent, wrong, standing, told)


def _result(sheet: Sheet, *, failed: bool, unknown: bool) -> Result:
    if failed:
        return "failed"
    if not sheet.asked:
        return "nothing asked"
    return "unknown" if unknown else "passed"


def _silence(name: str, wrong: Sequence[Wrong], standing: Sequence[str], doubt: str) -> Silence:
    """Whether one alert stayed silent; silence that nobody heard, or of nothing, is not known."""
    if any(one.name == name for one in wrong):
        return Silence(name, "fired")
    if name in standing:
        return Silence(name, "unknown", "it was firing before the fault began")
    return Silence(name, "unknown" if doubt else "silent", doubt)


def _silent_reasons(silent: Sequence[Silence], doubt: str) -> Iterable[str]:
    """Why a silence is not known: once what is true of all, and what is true of one."""
    unknown = [one for one in silent if one.answer == "unknown"]
    for one in unknown:
        if one.why != doubt:
            yield f"{one.name}: whether it stayed silent is not known: {one.why}"
    if any(one.why == doubt for one in unknown):
        yield doubt


def _row(expected: Expected, sheet: Sheet, faults: Sequence[Fault], seen: Observation) -> Row:
    fault = fault_of(expected, faults)
    if fault is None or not fault.proved:
        name = fault.name if fault else expected.fault or ""
        why = f"{name or 'the fault'} was not proved"
        ending: Ending = "unknown" if expected.resolves_within_s is not None else "not asked"
        return Row(
            expected.name, name, expected.within_s, "unknown", None,
            expected.resolves_within_s, ending, None, 0, why,
        )  # fmt: skip
    next_s = _asked_next_s(expected, fault, sheet, faults)
    own = [one for one in seen.firings if one.name == expected.name and one.from_s < next_s]
    own.sort(key=lambda one: one.from_s)
    after = [one for one in own if one.from_s >= fault.began_s]
    standing = any(_covers(one, fault.began_s) for one in own)
    answer, detection_s, why = _answer(expected, fault, after, standing, seen)
    last = max(
        (one for one in own if one.until_s is None or one.until_s > fault.began_s),
        key=lambda one: (one.until_s is None, one.until_s or 0),
        default=None,
    )
    ending, resolved_s, ending_why = _ending(expected, fault, last, seen)
    if answer == "missing":
        ending = "not asked"
    return Row(
        expected.name, fault.name, expected.within_s, answer, detection_s,
        expected.resolves_within_s, ending, resolved_s, len(after) + standing,
        "; ".join(filter(None, (why, ending_why))),
    )  # fmt: skip


def _asked_next_s(expected: Expected, fault: Fault, sheet: Sheet, faults: Sequence[Fault]) -> float:
    """When the next fault begins of which the same alert is asked: what fires then answers it."""
    others = [fault_of(one, faults) for one in sheet.expected if one.name == expected.name]
    later = [one.began_s for one in others if one is not None and one.began_s > fault.began_s]
    return min(later, default=math.inf)


def fault_of(expected: Expected, faults: Sequence[Fault]) -> Fault | None:
    """The fault that an expected alert is about: the one it names, or the first of all."""
    named = [one for one in faults if expected.fault in (None, one.name)]
    return min(named, key=lambda one: one.began_s, default=None)


def _answer(
    expected: Expected,
    fault: Fault,
    after: Sequence[Firing],
    standing: bool,
    seen: Observation,
) -> tuple[Answer, float | None, str]:
    """Whether it fired, how long after the fault's beginning, and why that is not known."""
    if standing:
        return "before", None, "it was firing before the fault began"
    limit_s = fault.began_s + expected.within_s
    first_s = after[0].from_s if after else None
    if first_s is not None and (gap := _gap_before(first_s, fault.began_s, seen)):
        return "unknown", None, f"nothing was seen {_span(gap)}, just before it was seen firing"
    if first_s is not None:
        took_s = round(first_s - fault.began_s, 3)
        return ("in time" if took_s <= expected.within_s else "late"), took_s, ""
    if gap := _gap_in(fault.began_s, limit_s, seen):
        return "unknown", None, f"nothing was seen {_span(gap)}"
    return "missing", None, ""


def _ending(
    expected: Expected, fault: Fault, last: Firing | None, seen: Observation
) -> tuple[Ending, float | None, str]:
    """Whether it stopped in time after the fault's end."""
    if expected.resolves_within_s is None:
        return "not asked", None, ""
    if last is None:
        return "unknown", None, ""
    limit_s = fault.ended_s + expected.resolves_within_s
    if last.until_s is None:
        if seen.seen.until_s >= limit_s:
            return "still firing", None, ""
        return "unknown", None, f"it was watched until {seen.seen.until_s:.0f} s only"
    if gap := _gap_before(last.until_s, fault.began_s, seen, after=True):
        return "unknown", None, f"nothing was seen {_span(gap)}, when it stopped"
    took_s = round(max(0.0, last.until_s - fault.ended_s), 3)
    return ("in time" if took_s <= expected.resolves_within_s else "late"), took_s, ""


def _wrong(
    sheet: Sheet, known: set[str] | frozenset[str], began_s: float, seen: Observation
) -> tuple[Wrong, ...]:
    """The first firing, after the first fault's beginning, of each alert that nobody expected."""
    found: dict[str, Wrong] = {}
    for one in sorted(seen.firings, key=lambda one: one.from_s):
        forbidden = one.name in sheet.silent
        if one.name in found or one.from_s < began_s or (one.name in known and not forbidden):
            continue
        found[one.name] = Wrong(one.name, one.severity, one.from_s, one.until_s, forbidden)
    return tuple(found.values())


def _covers(one: Firing, at_s: float) -> bool:
    return one.from_s < at_s and (one.until_s is None or one.until_s > at_s)


def _gap_in(from_s: float, until_s: float, seen: Observation) -> Span | None:
    """The first part of a while in which nothing was seen."""
    unseen = [*seen.gaps]
    if seen.seen.from_s > from_s:
        unseen.append(Span(from_s, seen.seen.from_s))
    if seen.seen.until_s < until_s:
        unseen.append(Span(seen.seen.until_s, until_s))
    hit = [one for one in unseen if one.from_s < until_s and one.until_s > from_s]
    return min(hit, default=None)


def _gap_before(
    at_s: float, since_s: float, seen: Observation, *, after: bool = False
) -> Span | None:
    """A gap that ends (or, `after`, begins) where something was first (last) seen firing, so that
    the true moment may lie in it.
    """
    for one in seen.gaps:
        edge_s = one.from_s if after else one.until_s
        if abs(edge_s - at_s) <= EDGE_S and one.until_s > since_s:
            return one
    return None


EDGE_S = 2.5
"""How near to a gap's edge a change counts as having happened in the gap."""


def _span(one: Span) -> str:
    return f"from {one.from_s:.0f} to {one.until_s:.0f} s"


def _reasons(rows: Iterable[Row]) -> Iterable[str]:
    for one in rows:
        if one.answer == "late":
            yield f"{one.name} fired after {one.detection_s:.1f} s, {one.within_s:g} s are allowed"
        elif one.answer == "missing":
            yield f"{one.name} did not fire within {one.within_s:g} s"
        elif one.answer == "before":
            yield f"{one.name} was firing before the fault began"
        elif one.answer == "unknown":
            yield f"{one.name} is not known: {one.why}"
        if one.ending == "late":
            yield (
                f"{one.name} stopped {one.resolved_after_s:.1f} s after the fault's end,"
                f" {one.resolves_within_s:g} s are allowed"
            )
        elif one.ending == "still firing":
            yield f"{one.name} was still firing {one.resolves_within_s:g} s after the fault's end"
        elif one.ending == "unknown" and one.answer not in ("unknown", "missing"):
            yield f"{one.name}: when it stopped is not known: {one.why}"


def _wrong_reason(one: Wrong) -> str:
    told = (
        "fired although it must stay silent" if one.forbidden else "fired, and nobody expected it"
    )
    return f"{one.name} {told}"


def firings(
    samples: Mapping[tuple[str, str], Sequence[float]], *, step_s: float, until_s: float
) -> tuple[Firing, ...]:
    """Firings made of the moments at which each (alert, severity) was seen firing, one every
    `step_s` as long as it fires; what was seen firing at the end goes on.
    """
    found = []
    for (name, severity), moments in samples.items():
        ordered = sorted(moments)
        start_s = last_s = ordered[0] if ordered else 0.0
        for at_s in ordered:
            if at_s - last_s > SLACK * step_s:
                found.append(Firing(name, start_s, last_s + step_s, severity))
                start_s = at_s
            last_s = at_s
        if ordered:
            ends_s = None if until_s - last_s <= SLACK * step_s else last_s + step_s
            found.append(Firing(name, start_s, ends_s, severity))
    return tuple(sorted(found, key=lambda one: (one.from_s, one.name)))


SLACK = 2.5
"""An evaluation may be late by so many steps before an alert counts as gone meanwhile."""


def gaps(moments: Sequence[float], *, step_s: float, span: Span) -> tuple[Span, ...]:
    """Where, within `span`, moments that should come every `step_s` did not."""
    edges = [span.from_s, *sorted(one for one in moments if span.from_s < one < span.until_s)]
    pairs = zip(edges, [*edges[1:], span.until_s], strict=True)
    return tuple(Span(one, other) for one, other in pairs if other - one > SLACK * step_s)
