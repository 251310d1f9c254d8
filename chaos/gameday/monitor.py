"""Looking on while a GameDay goes: measure, have the guard judge, keep a sample, tell it.

Decides nothing itself: the guard is pure (`chaos.gameday.guard`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from chaos.gameday import guard
from chaos.gameday.alerts import AlertWatch
from chaos.gameday.measure import Meter
from chaos.gameday.strikes import Strikes
from chaos.gameday.timeline import Timeline
from chaos.lab.process import LabError
from chaos.workload.traffic import Traffic

SAMPLES_MAX = 20_000

Sample = dict[str, Any]


class Monitor:
    """Looks once every interval of the guard, from `start` to `stop`, in a thread of its own.

    Each look is one of `samples`, is handed to `on_sample`, and is told by `tell`, which answers
    whether somebody wants the GameDay aborted. While it is `guarding`, the guard may abort it.
    """

    def __init__(
        self,
        limits: guard.Limits,
        timeline: Timeline,
        *,
        traffic: Traffic,
        meter: Meter,
        alerts: AlertWatch,
        strikes: Strikes,
        tell: Callable[[str, Mapping[str, Any]], bool],
        abort: Callable[[str], None],
    ) -> None:
        self.samples: list[Sample] = []
        self.on_sample: Callable[[Mapping[str, Any]], None] = lambda _: None
        self.guarding = False
        self._limits, self._timeline = limits, timeline
        self._traffic, self._meter, self._alerts, self._strikes = traffic, meter, alerts, strikes
        self._tell, self._abort = tell, abort
        self._guard = guard.State()
        self._sent_before = 0
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gameday-guard", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._enough.set()

    def _run(self) -> None:
        while not self._enough.wait(self._limits.every_s):
            try:
                self._look()
            except LabError as error:
                self._abort(f"the lab is gone: {error}")

    def _look(self) -> None:
        reading = self._meter.reading(self._limits.window_s)
        found = guard.evaluate(self._limits, reading)
        if self.guarding:
            self._guard = guard.following(self._guard, self._limits, found, reading)
            if self._guard.abort:
                self._abort(f"guard: {self._guard.abort}")
        sample = self._sample(reading, found)
        if len(self.samples) < SAMPLES_MAX:
            self.samples.append(sample)
        self.on_sample(sample)
        if self._tell(sample["phase"], sample):
            self._abort("an operator asked for it")

    def _sample(self, reading: guard.Reading, found: guard.Evaluation) -> Sample:
        every_s = self._limits.every_s
        seen, sent, firing = self._meter.client(every_s), self._traffic.sent, self._alerts.firing
        before, self._sent_before = self._sent_before, sent
        return {
            "at_s": self._timeline.now_s,
            "phase": self._timeline.present,
            "sent": sent,
            "sent_per_s": round((sent - before) / every_s, 2),
            "accepted_per_s": round(seen.accepted / every_s, 2),
            "refused_per_s": round((seen.ended - seen.accepted) / every_s, 2),
            "p50_ms": _rounded(seen.p50_ms),
            "p95_ms": _rounded(seen.p95_ms),
            "backlog": reading.backlog,
            "stuck": reading.stuck,
            "error_ratio": _rounded(reading.error_ratio, 4),
            "window_p95_ms": _rounded(reading.accept_p95_ms),
            "faults": self._strikes.active,
            "firing": None if firing is None else sorted(firing),
            "guarding": self.guarding,
            "bad": list(found.bad),
            "bad_in_a_row": self._guard.bad,
        }


def _rounded(value: float | None, digits: int = 1) -> float | None:
    return None if value is None else round(value, digits)
