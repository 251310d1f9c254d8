"""The alert exam of a GameDay: look on while it goes, read what fired, have it marked.

Nothing here can harm a GameDay: whatever Prometheus does, or if there is none, the exam says what
it does not know.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from chaos.observe import exam
from chaos.observe.exam import Fault, Marks, Observation, Sheet, Span
from chaos.observe.reader import Alertmanager, Prometheus, Unreadable

POLL_S = 1.0
STALE_S = 4.0
READ_TIMEOUT_S = 15.0
FIRING = 'ALERTS{alertstate="firing"}'
SCRAPED = "count(up)"
STEP_S = 1.0
STEPS_MAX = 10_000
QUIET_S = 5.0
"""An alert that fired is gone when it was not seen firing for so long."""


class Now(NamedTuple):
    """What fires at a moment; None: not known."""

    at_s: float
    firing: frozenset[str] | None


class AlertWatch:
    """Looks at the alerts of one lab from `began_s` (epoch) on; `observe` is the lab's status.

    `None` for `observe` is a lab without Prometheus: then nothing is ever known.
    """

    def __init__(self, observe: Mapping[str, Any] | None, began_s: float) -> None:
        self._began_s = began_s
        self._prometheus = Prometheus(observe["prometheus"]["url"]) if observe else None
        self._alertmanager = Alertmanager(observe["alertmanager"]["url"]) if observe else None
        self._step_s = float(observe["interval_s"]) if observe else STEP_S
        self._now = Now(0.0, None)
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gameday-alerts", daemon=True)
        self.fired: dict[str, float] = {}
        self.arrived: dict[str, bool] = {}

    @property
    def possible(self) -> bool:
        """Whether the lab has a Prometheus."""
        return self._prometheus is not None

    @property
    def firing(self) -> frozenset[str] | None:
        """What fires now; None while that is not known."""
        now = self._now
        return now.firing if time.monotonic() - now.at_s < STALE_S else None

    def fires(self, name: str) -> bool | None:
        """Whether this alert fires or did just now; None while that is not known."""
        if self.firing is None:
            return None
        seen_s = self.fired.get(name)
        return seen_s is not None and time.monotonic() - seen_s < QUIET_S

    def start(self) -> None:
        """Begin to look."""
        if self.possible:
            self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._enough.set()

    def _run(self) -> None:
        while not self._enough.wait(POLL_S):
            self.look()

    def look(self) -> None:
        """Ask once what fires now; a question without an answer changes nothing."""
        assert self._prometheus is not None
        assert self._alertmanager is not None
        try:
            active = self._prometheus.alerts()
        except Unreadable:
            return
        firing = frozenset(one.name for one in active if one.state == "firing")
        now_s = time.monotonic()
        self.fired |= dict.fromkeys(firing, now_s)
        self._now = Now(now_s, firing)
        try:
            for name, suppressed in self._alertmanager.alerts().items():
                self.arrived[name] = self.arrived.get(name, True) and suppressed
        except Unreadable:
            return

    def observation(self, until_s: float) -> Observation:
        """All that fired from the beginning to `until_s` (seconds of the GameDay), and where
        Prometheus saw nothing. Raises Unreadable.
        """
        if self._prometheus is None:
            raise Unreadable(exam.NOT_SAT)
        prometheus = Prometheus(self._prometheus.url, timeout_s=READ_TIMEOUT_S)
        span, step_s = Span(0.0, until_s), max(self._step_s, until_s / STEPS_MAX)
        end_s = self._began_s + until_s
        samples: dict[tuple[str, str], list[float]] = {}
        for one in prometheus.query(f"{FIRING}[{int(until_s) + 1}s]", end_s):
            key = (one.labels.get("alertname", ""), one.labels.get("severity", ""))
            when = (round(at_s - self._began_s, 3) for at_s, value in one.samples if value > 0)
            samples.setdefault(key, []).extend(at for at in when if at >= 0)
        scraped = prometheus.query_range(SCRAPED, self._began_s, end_s, step_s)
        moments = [at_s - self._began_s for one in scraped for at_s, value in one.samples if value]
        return Observation(
            exam.firings(samples, step_s=self._step_s, until_s=until_s),
            span,
            exam.gaps(moments, step_s=step_s, span=span),
        )


def worth_waiting(sheet: Sheet, faults: Sequence[Fault], watch: AlertWatch, now_s: float) -> bool:
    """Whether an expected alert may still fire, or stop, in time."""
    for one in sheet.expected:
        fault = exam.fault_of(one, faults)
        if fault is None or not fault.proved:
            continue
        if one.name not in watch.fired and now_s < fault.began_s + one.within_s:
            return True
        limit_s = fault.ended_s + (one.resolves_within_s or 0.0) + QUIET_S
        if now_s < limit_s and watch.fires(one.name) is not False:
            return True
    return False


def document(
    sheet: Sheet | None,
    faults: Sequence[Fault],
    watch: AlertWatch,
    now_s: float,
    *,
    required: bool,
) -> dict[str, Any]:
    """The exam as the journal keeps it."""
    base = {"sat": False, "required": required, "result": "unknown", "score": None}
    try:
        seen = watch.observation(now_s)
    except Unreadable as error:
        return {**base, "reasons": [str(error)]}
    firings = [one._asdict() for one in seen.firings]
    gaps = [one._asdict() for one in seen.gaps]
    if sheet is None:
        reasons = ["the experiment does not say which alerts it expects"]
        found = {**base, "firings": firings, "gaps": gaps}
        return {**found, "result": "nothing asked", "reasons": reasons}
    marks = exam.judge(sheet, faults, seen)
    return {**base, "sat": True, **_marked(marks, watch), "firings": firings, "gaps": gaps}


def _marked(marks: Marks, watch: AlertWatch) -> dict[str, Any]:
    return {
        "result": marks.result,
        "score": None if marks.score is None else round(marks.score, 4),
        "reasons": list(marks.reasons),
        "rows": [
            {**one._asdict(), "alertmanager": _arrival(watch, one.name)} for one in marks.rows
        ],
        "silent": [one._asdict() for one in marks.silent],
        "wrong": [one._asdict() for one in marks.wrong],
        "standing": list(marks.standing),
    }


def _arrival(watch: AlertWatch, name: str) -> str:
    """What Alertmanager had of an alert; empty when it was never seen there."""
    suppressed = watch.arrived.get(name)
    return "" if suppressed is None else "inhibited" if suppressed else "arrived"


def sentence(found: Mapping[str, Any]) -> str:
    """An exam in one line: its result, its score, what was not right, and whether any alert had to
    fire; "" without one.
    """
    if not found:
        return ""
    score = "" if found["score"] is None else f", {found['score']:.0%} right"
    reasons = [*found["reasons"]]
    if found["result"] == "passed" and not found["rows"]:
        names = ", ".join(one["name"] for one in found.get("silent", ()))
        reasons.append(f"no alert had to fire, and none of these did: {names}")
    return f"{found['result']}{score}" + (f": {'; '.join(reasons)}" if reasons else "")
