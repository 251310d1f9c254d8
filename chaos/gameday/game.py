"""One GameDay under way: orders flow, faults are struck under the guard, the platform recovers.

Guarantees: nothing is broken once the GameDay is aborted. What it is made of stands beside it: when
(`timeline`), what is broken (`strikes`), what is seen (`monitor`), how it ends (`ending`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from chaos.gameday import lock
from chaos.gameday.alerts import AlertWatch
from chaos.gameday.experiment import Experiment
from chaos.gameday.measure import Meter
from chaos.gameday.monitor import Monitor
from chaos.gameday.strikes import Strikes
from chaos.gameday.timeline import Say, Timeline
from chaos.gameday.verdict import Verdict
from chaos.lab.client import Lab
from chaos.workload.target import target_of
from chaos.workload.traffic import Traffic, TrafficFailed

WARM_ORDERS = 5
WARM_TIMEOUT_S = 60.0
LOOK_S = 0.2


class Recorder(Protocol):
    """Who keeps the state of a run while it goes on, and its end."""

    def tell(self, phase: str, progress: Mapping[str, Any]) -> bool:
        """Keep where it is; whether somebody wants it aborted. Never waits, never raises."""

    def end(self, found: Verdict, journal: Mapping[str, Any], page: bytes) -> None:
        """Keep verdict, journal and report."""


class Game:
    """One run of `experiment` in `lab`: `begin`, then what the experiment asks for, then its end.

    One at a time in a lab: `begin` raises GameDayError when another one goes on. `steady` asks
    whether the steady state holds now; `known` is what an audit found wrong with these books
    before, by invariant; `aborted` and `broken` say why it ends early and why it proves nothing.
    """

    def __init__(
        self,
        experiment: Experiment,
        lab: Lab,
        *,
        run_id: str,
        recorder: Recorder,
        report_dir: Path | None = None,
        say: Say,
    ) -> None:
        self.experiment, self.lab, self.run_id = experiment, lab, run_id
        self.recorder = recorder
        self.report_dir = report_dir or lab.files.root / lock.DIRECTORY / run_id
        knobs, self.target = experiment.knobs, target_of(lab)
        self.stop = threading.Event()
        self.aborted = ""
        self.broken = ""
        self.known: Mapping[str, int] = {}
        self.steady: Callable[[], bool] = lambda: False
        self.verdict: Verdict | None = None
        self.timeline = Timeline(say, self._phase_begins)
        self.traffic = Traffic(
            self.target, rate_per_s=knobs.rate_per_s, seed=knobs.seed, mix=experiment.mix
        )
        self.meter = Meter(self.target.dsn, self.traffic)
        self.alerts = AlertWatch(lab.status().get("observe"), self.timeline.began_s)
        self.strikes = Strikes(
            lab, self.timeline, self.stop, url=self.target.url, knobs=knobs, run_id=run_id
        )
        self.monitor = Monitor(
            experiment.ours.guard,
            self.timeline,
            traffic=self.traffic,
            meter=self.meter,
            alerts=self.alerts,
            strikes=self.strikes,
            tell=recorder.tell,
            abort=self.abort,
        )
        self._lock: IO[str] | None = None

    def begin(self) -> None:
        """Let orders flow and look on. Raises GameDayError and TrafficFailed."""
        self._lock = lock.alone(self.lab.files.root)
        self.strikes.begin()
        self.timeline.enter("warm-up")
        self.meter.start()
        self.alerts.start()
        self.traffic.__enter__()
        self.monitor.start()
        deadline = time.monotonic() + WARM_TIMEOUT_S
        until = time.monotonic() + self.experiment.knobs.warm_up_s
        while time.monotonic() < until or self.traffic.accepted < WARM_ORDERS:
            self.traffic.check()
            if self.stop.wait(LOOK_S):
                return
            if time.monotonic() > max(deadline, until):
                raise TrafficFailed(f"no order was accepted within {WARM_TIMEOUT_S:g} s")

    def abort(self, why: str) -> None:
        """End what is broken and come to the verdict; the first reason counts."""
        if not self.aborted:
            self.aborted = why
            self.timeline.say(f"ABORTED: {why}")
        self.stop.set()

    def found_broken(self, why: str) -> None:
        """The experiment itself does not work, so it proves nothing; the first reason counts."""
        self.broken = self.broken or why

    def _phase_begins(self, name: str) -> None:
        samples = self.monitor.samples
        self.recorder.tell(name, samples[-1] if samples else {})

    def method_begins(self) -> None:
        """The times of planned faults count from now, and the guard is armed."""
        self.strikes.method_begins()
        self.monitor.guarding = True

    def hold(self) -> dict[str, Any]:
        """Wait until the duration is over, or the GameDay is aborted."""
        began_s = self.timeline.now_s
        self.stop.wait(self.strikes.due_in_s(1.0))
        return {"held_s": round(self.timeline.now_s - began_s, 1), "aborted": self.aborted}

    def recover(self) -> dict[str, Any]:
        """Wait for the faults to end by themselves, then for the steady state."""
        if self.stop.is_set():
            return {"recovered": None, "aborted": self.aborted}
        while self.strikes.active and not self.stop.wait(LOOK_S):
            pass
        self.monitor.guarding = False
        self.timeline.enter("recovery")
        met = self.wait_steady(self.experiment.knobs.recovery_s)
        return {"recovered": met, "aborted": self.aborted}

    def wait_steady(self, timeout_s: float) -> bool:
        """Whether the steady state holds, or comes back in time."""
        deadline = time.monotonic() + timeout_s
        interrupted = self.aborted
        while not self.steady():
            if time.monotonic() > deadline or self.aborted != interrupted:
                return False
            time.sleep(2 * LOOK_S)
        return True

    def end_faults(self) -> dict[str, Any]:
        """End what is broken now, wait until it is whole, and say what could not be ended."""
        self.monitor.guarding = False
        self.stop.set()
        left = self.strikes.end()
        return {"ended": not left, "left": left}

    def close(self) -> None:
        """Let another GameDay begin."""
        self.timeline.leave()
        self.monitor.stop()
        self.meter.stop()
        self.alerts.stop()
        if self._lock is not None:
            self._lock.close()
            self._lock = None
