"""The canary's pure rules: which orders go to it, and what its figures say against stable's.

An order's place is a stable hash of its id, so every orchestrator, every re-drive and every restart
decides alike, and a growing percentage only adds orders. A verdict needs samples of both arms;
without them it is INSUFFICIENT, which is neither good nor bad. An error or decline ratio counts
against the canary only when it is worse beyond chance: the lower bound of Wilson's 95 % interval
is compared, not the ratio seen (E. B. Wilson, JASA 22, 1927).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from hashlib import blake2b
from math import sqrt
from typing import NamedTuple

_PLACES = 2**64
_Z = 1.96
SALT = b"canary.payment"


def place(order_id: str) -> float:
    """Return where an order stands in [0, 100): it is the canary's above that percentage."""
    digest = blake2b(order_id.encode(), digest_size=8, key=SALT).digest()
    return int.from_bytes(digest) / _PLACES * 100


def goes_to_canary(order_id: str, percent: float) -> bool:
    """Whether the order belongs to the canary at `percent` (0 to 100)."""
    return place(order_id) < percent


class Verdict(StrEnum):
    """What a comparison says of the canary."""

    INSUFFICIENT = "insufficient_data"
    HEALTHY = "healthy"
    BREACHED = "breached"


class Decision(StrEnum):
    """What is to be done after a number of windows."""

    WAIT = "wait"
    ROLL_BACK = "roll_back"
    PROMOTE = "promote"


class ArmFigures(NamedTuple):
    """The charges that one arm took up in a window, by what had become of them when it was read.

    `ok` and `declined` ended; `retrying` and `parked` failed and wait; `retried` of the ended ones
    had failed before; `cancelled` were undone before an outcome; `pending` have none yet. Latencies
    are from request to outcome, of pending ones so far, in milliseconds; None without any.
    """

    attempts: int = 0
    ok: int = 0
    declined: int = 0
    retrying: int = 0
    parked: int = 0
    retried: int = 0
    cancelled: int = 0
    pending: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None

    @property
    def errors(self) -> int:
        """Charges that failed at least once, whatever came of them."""
        return self.retrying + self.parked + self.retried

    @property
    def error_ratio(self) -> float | None:
        """Share of charges that failed at least once; None without charges."""
        return self.errors / self.attempts if self.attempts else None

    @property
    def decline_ratio(self) -> float | None:
        """Share of declines among the definite answers; None without answers."""
        answered = self.ok + self.declined
        return self.declined / answered if answered else None


class Margins(NamedTuple):
    """How much worse than stable the canary may be: shares, a factor and milliseconds.

    Each arm needs `samples_min` charges in the window.
    """

    samples_min: int
    error_margin: float
    decline_margin: float
    p95_factor: float
    p95_margin_ms: float


class Judgement(NamedTuple):
    """A verdict and, for people, why: every reason that holds."""

    verdict: Verdict
    reasons: tuple[str, ...]


def judge(stable: ArmFigures, canary: ArmFigures, margins: Margins) -> Judgement:
    """Compare one window of both arms."""
    few = [
        f"{name} has {arm.attempts} charges of {margins.samples_min}"
        for name, arm in (("stable", stable), ("canary", canary))
        if arm.attempts < margins.samples_min
    ]
    if few:
        return Judgement(Verdict.INSUFFICIENT, tuple(few))
    reasons = [*_worse_errors(stable, canary, margins), *_worse_declines(stable, canary, margins)]
    if stable.p95_ms is not None and canary.p95_ms is not None:
        bound_ms = stable.p95_ms * margins.p95_factor + margins.p95_margin_ms
        if canary.p95_ms > bound_ms:
            reasons.append(f"p95 {canary.p95_ms:.0f} ms, at most {bound_ms:.0f} ms is allowed")
    if reasons:
        return Judgement(Verdict.BREACHED, tuple(reasons))
    return Judgement(Verdict.HEALTHY, ("no worse than stable within the margins",))


def decide(verdicts: Sequence[Verdict], *, rollback_windows: int, promote_windows: int) -> Decision:
    """Decide on consecutive windows, the newest first.

    Roll back when the newest `rollback_windows` are all breached, promote when the newest
    `promote_windows` are all healthy. One without enough data ends either run.
    """
    if _all_are(verdicts[:rollback_windows], rollback_windows, Verdict.BREACHED):
        return Decision.ROLL_BACK
    if _all_are(verdicts[:promote_windows], promote_windows, Verdict.HEALTHY):
        return Decision.PROMOTE
    return Decision.WAIT


def wilson_lower(hits: int, total: int) -> float:
    """Return the lower bound of Wilson's 95 % interval of a share; 0 without a sample."""
    if total == 0:
        return 0.0
    share, z2 = hits / total, _Z * _Z
    middle = share + z2 / (2 * total)
    spread = _Z * sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    return max(0.0, (middle - spread) / (1 + z2 / total))


def _worse_errors(stable: ArmFigures, canary: ArmFigures, margins: Margins) -> list[str]:
    allowed = (stable.error_ratio or 0.0) + margins.error_margin
    if wilson_lower(canary.errors, canary.attempts) <= allowed:
        return []
    return [f"{canary.errors} of {canary.attempts} charges failed, {allowed:.1%} is allowed"]


def _worse_declines(stable: ArmFigures, canary: ArmFigures, margins: Margins) -> list[str]:
    answered = canary.ok + canary.declined
    allowed = (stable.decline_ratio or 0.0) + margins.decline_margin
    if wilson_lower(canary.declined, answered) <= allowed:
        return []
    return [f"{canary.declined} of {answered} answers were declines, {allowed:.1%} is allowed"]


def _all_are(verdicts: Sequence[Verdict], count: int, wanted: Verdict) -> bool:
    return len(verdicts) == count and all(one is wanted for one in verdicts)
