"""Error ratio, burn rate, budget and alerts of an objective: pure arithmetic.

The burn rate is the error ratio over the budget, the share of errors that the objective allows: at
1 the budget of the objective's window is spent when the window ends. Alerts are the multi-window,
multi-burn-rate ones of the SRE Workbook (chapter 5): one fires when both its windows burn faster
than its factor, and when the long one has a minimum of bad events: of few events a single bad one
is a large share, and no reason to wake anybody. Where nothing was counted nothing is known: the
answer is None, never 0. A window in which events were counted and none was bad burns at 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

Severity = Literal["page", "ticket"]


class Counts(NamedTuple):
    """Good and bad events."""

    good: int
    bad: int

    @property
    def total(self) -> int:
        """How many there were."""
        return self.good + self.bad


class BurnAlert(NamedTuple):
    """Fires while both windows burn faster than `factor`; the short one makes it end in time."""

    severity: Severity
    factor: float
    long: str
    short: str

    @property
    def name(self) -> str:
        """A word for it: severity and factor."""
        return f"{self.severity}_{self.factor:g}"


ALERTS = (
    BurnAlert("page", 14.4, "1h", "5m"),
    BurnAlert("page", 6, "6h", "30m"),
    BurnAlert("ticket", 3, "1d", "2h"),
    BurnAlert("ticket", 1, "3d", "6h"),
)


def error_ratio(counts: Counts) -> float | None:
    """Return the share of bad events; None when there were none at all."""
    return counts.bad / counts.total if counts.total > 0 else None


def burn_rate(ratio: float | None, target: float) -> float | None:
    """Return how many times as fast as allowed the budget is spent; `target` is below 1."""
    return None if ratio is None else ratio / (1 - target)


def budget_left(ratio: float | None, target: float) -> float | None:
    """Return the share of the budget that is left, given the error ratio over the objective's whole
    window; negative when more than all is spent."""
    burned = burn_rate(ratio, target)
    return None if burned is None else 1 - burned


def time_to_exhaustion_s(
    left: float | None, burning: float | None, window_s: float
) -> float | None:
    """Return how long the budget lasts at the present burn rate; 0 when it is spent.

    None when it is not known, or when nothing burns.
    """
    if left is None:
        return None
    if left <= 0:
        return 0.0
    if burning is None or burning <= 0:
        return None
    return left * window_s / burning


def is_firing(
    alert: BurnAlert,
    burn_rates: Mapping[str, float | None],
    bad: Mapping[str, int | None],
    *,
    bad_min: int,
) -> bool | None:
    """Whether an alert fires, given burn rates and bad events by window; None when one of its
    windows has no data. It fires for no fewer than `bad_min` bad events in the long one."""
    long, short, counted = (
        burn_rates.get(alert.long), burn_rates.get(alert.short), bad.get(alert.long),
    )  # fmt: skip
    if long is None or short is None or counted is None:
        return None
    return counted >= bad_min and long > alert.factor and short > alert.factor
