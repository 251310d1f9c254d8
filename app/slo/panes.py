"""Panes: counts of events by the time at which they happened; pure rules.

A pane covers a fixed stretch of event time; an event falls into one fine and one coarse pane.
Windows are merged from panes when somebody asks: short ones from fine panes, long ones from coarse
panes. A window therefore reaches up to one pane further back than its name says, never less.

When an event happened is what its envelope says, for whoever reads it late must not move it. Two
rules guard against clocks that are wrong:

* an event from the future, by more than `skew_max_s` beyond the time at which the broker took it,
  counts as of that time (`future`);
* an event older than what is kept is not counted at all (`ancient`).

Every other late event is counted where it belongs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

import msgspec

from app.slo.sketch import EMPTY, Sketch, merge

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400
FINE_S, COARSE_S = 10, 300
WINDOWS_S: Mapping[str, int] = MappingProxyType(
    {
        "1m": MINUTE_S,
        "5m": 5 * MINUTE_S,
        "30m": 30 * MINUTE_S,
        "1h": HOUR_S,
        "2h": 2 * HOUR_S,
        "6h": 6 * HOUR_S,
        "1d": DAY_S,
        "3d": 3 * DAY_S,
    }
)
"""Every window by its name, which a time scale does not change."""
FINE_WINDOWS = ("1m", "5m", "30m")
FINE_KEPT_S = 45 * MINUTE_S
COARSE_KEPT_S = 3 * DAY_S + 2 * HOUR_S

Sli = Literal["completion", "availability", "fraud", "dead_letters"]
Odd = Literal["future", "ancient", "negative", "not_a_number"]
ODD: tuple[Odd, ...] = ("future", "ancient", "negative", "not_a_number")


class Scheme(NamedTuple):
    """How long panes, windows and retention are, in seconds, under a time scale."""

    fine_s: int
    coarse_s: int
    fine_kept_s: float
    coarse_kept_s: float
    windows_s: Mapping[str, float]

    def width_of(self, window: str) -> int:
        """Return the width of the panes that `window` is merged from."""
        return self.fine_s if window in FINE_WINDOWS else self.coarse_s

    def kept_s(self, width_s: int) -> float:
        """Return how long a pane is kept after its end; of no known width: as a coarse one."""
        return self.fine_kept_s if width_s == self.fine_s else self.coarse_kept_s

    def is_kept(self, width_s: int, start_s: int, now_s: float) -> bool:
        """Whether a pane is still kept at `now_s`."""
        return start_s + width_s + self.kept_s(width_s) > now_s


def scheme_of(time_scale: float) -> Scheme:
    """Return the scheme in which time runs `time_scale` times as fast; no pane is below 1 s."""
    return Scheme(
        fine_s=max(1, round(FINE_S / time_scale)),
        coarse_s=max(2, round(COARSE_S / time_scale)),
        fine_kept_s=max(5.0, FINE_KEPT_S / time_scale),
        coarse_kept_s=max(10.0, COARSE_KEPT_S / time_scale),
        windows_s={name: length_s / time_scale for name, length_s in WINDOWS_S.items()},
    )


class Key(NamedTuple):
    """Which pane: of what, how wide, from when (Unix seconds, a multiple of the width)."""

    sli: str
    width_s: int
    start_s: int

    def packed(self) -> bytes:
        """Return the key of the table."""
        return f"{self.sli}|{self.width_s}|{self.start_s}".encode()

    @classmethod
    def unpacked(cls, raw: bytes) -> Key:
        """Return what `packed` has packed."""
        sli, width_s, start_s = raw.decode().split("|")
        return cls(sli, int(width_s), int(start_s))


class Pane(msgspec.Struct, frozen=True):
    """What happened in a pane: events that were good and bad, and how long they took (seconds)."""

    good: int = 0
    bad: int = 0
    sketch: Sketch = EMPTY


class Measured(NamedTuple):
    """One event as one indicator sees it; `sketch` holds how long it took, where that is asked."""

    sli: Sli
    good: bool
    sketch: Sketch = EMPTY


class Placed(NamedTuple):
    """When an event counts, None for never, and what was odd about its time, if anything."""

    at_s: float | None
    odd: Odd | None = None


def place(
    at_s: float, received_s: float, now_s: float, *, scheme: Scheme, skew_max_s: float
) -> Placed:
    """Return when an event counts that says it happened at `at_s` and was taken at `received_s`."""
    odd: Odd | None = None
    if at_s > received_s + skew_max_s:
        at_s, odd = received_s, "future"
    width_s = scheme.coarse_s
    if not scheme.is_kept(width_s, start_of(at_s, width_s), now_s):
        return Placed(None, "ancient")
    return Placed(at_s, odd)


def start_of(at_s: float, width_s: int) -> int:
    """Return where the pane of a time begins."""
    return int(at_s // width_s) * width_s


def keys_of(sli: str, at_s: float, now_s: float, scheme: Scheme) -> list[Key]:
    """Return the panes that an event of `at_s` counts in; a fine one only while it is kept."""
    keys = [
        Key(sli, width_s, start_of(at_s, width_s)) for width_s in (scheme.coarse_s, scheme.fine_s)
    ]
    return [key for key in keys if scheme.is_kept(key.width_s, key.start_s, now_s)]


def pane_of(measured: Measured) -> Pane:
    """Return the pane that holds this one event."""
    return Pane(int(measured.good), int(not measured.good), measured.sketch)


def merged(panes: Iterable[Pane]) -> Pane:
    """Return one pane with all that is in `panes`, in whatever order they come."""
    listed = list(panes)
    sketches = [pane.sketch for pane in listed if pane.sketch is not EMPTY]
    return Pane(
        sum(pane.good for pane in listed),
        sum(pane.bad for pane in listed),
        merge(sketches) if sketches else EMPTY,
    )


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Pane).decode
_decode_sketch = msgspec.json.Decoder(Sketch).decode


def to_bytes(pane: Pane) -> bytes:
    """Return a pane as JSON; equal panes give equal bytes."""
    return _encode(pane)


def from_bytes(raw: bytes) -> Pane:
    """Return the pane of `to_bytes`; raises msgspec.DecodeError for anything else."""
    return _decode(raw)


def sketch_to_json(sketch: Sketch) -> str:
    """Return a sketch as JSON: {"zero": 0, "buckets": {"12": 3}}."""
    return _encode(sketch).decode()


def sketch_from_json(raw: str | bytes) -> Sketch:
    """Return the sketch of `sketch_to_json`, whatever the order of its members (PostgreSQL has one
    of its own); raises msgspec.DecodeError for anything else."""
    found = _decode_sketch(raw)
    return Sketch(found.zero, dict(sorted(found.buckets.items())))
