"""The two time scales of rules: hours as they are, and hours as minutes for a lab.

A GameDay of five minutes cannot wait for a window of six hours. At the lab's scale every window and
every `for` is 60 times shorter, as the setting `slo_time_scale` does with the windows of the SLOs;
names keep their nominal length (`rate5m`, `window="1h"`), so that dashboards serve both.
"""

from __future__ import annotations

from typing import NamedTuple

SAMPLES_MIN = 5
"""A rate over fewer scrapes than this says little when one of them is missing."""


class Scale(NamedTuple):
    """`factor` divides durations; `scrape_s` is how often Prometheus scrapes and evaluates (s)."""

    name: str
    factor: int
    scrape_s: int

    def seconds(self, nominal_s: float) -> int:
        """How long a duration that is `nominal_s` at scale 1 is here; whole seconds."""
        return round(nominal_s / self.factor)

    def window_s(self, nominal_s: float) -> int:
        """The range of a `rate(...)`: as `seconds`, but never so short that scrapes are missing."""
        return max(self.seconds(nominal_s), SAMPLES_MIN * self.scrape_s)

    def window(self, nominal_s: float) -> str:
        """The same as PromQL writes it."""
        return duration(self.window_s(nominal_s))

    def pick(self, production: float, lab: float) -> str:
        """A threshold: ages and growths that alarm in production come too late for a GameDay."""
        return f"{production if self.factor == 1 else lab:g}"


PRODUCTION = Scale("production", 1, 15)
LAB = Scale("lab", 60, 2)
SCALES = (PRODUCTION, LAB)


def duration(seconds: int) -> str:
    """A duration in the largest unit that leaves it whole: 90 is `90s`, 3600 is `1h`."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds and seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"
