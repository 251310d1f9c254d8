"""Charts of a GameDay as inline SVG: lines over time, faults as bands, phases as rules. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

WIDTH, HEIGHT = 960, 190
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 26, 24
POINTS_MAX = 600
STEPS = (1, 2, 2.5, 5, 10)
LANE = 20
LANES_MAX = 20
PHASE_MIN_PX = 62
"""A phase narrower than its name gets no name."""


class Series(NamedTuple):
    """One line: `kind` is its style, `key` its figure in a sample; None breaks the line."""

    name: str
    key: str
    kind: str


class Chart(NamedTuple):
    """One chart; `limit` is drawn as a line when it is in sight."""

    title: str
    unit: str
    series: tuple[Series, ...]
    limit: str = ""


CHARTS = (
    Chart(
        "Orders",
        "/s",
        (Series("accepted", "accepted_per_s", "a"), Series("not accepted", "refused_per_s", "bad")),
    ),
    Chart(
        "Time to accept",
        "ms",
        (Series("p50", "p50_ms", "a"), Series("p95", "p95_ms", "b")),
        "accept_p95_ms_max",
    ),
    Chart(
        "Under way",
        "",
        (Series("sagas and events", "backlog", "a"), Series("stuck sagas", "stuck", "bad")),
        "backlog_max",
    ),
)


def charts(ours: Mapping[str, Any]) -> list[str]:
    """Every chart of a GameDay (the journal's `x-symphony`); none without samples."""
    samples = thinned(ours["samples"])
    if len(samples) < 2:
        return []
    end_s = max(samples[-1]["at_s"], 1.0)
    return [_svg(chart, ours, samples, end_s) for chart in CHARTS]


def timeline(ours: Mapping[str, Any]) -> str:
    """Which alert fired when, a lane each, expected ones first; empty when none did."""
    exam = ours.get("exam") or {}
    firings = exam.get("firings") or ()
    expected = [one["name"] for one in exam.get("rows", ())]
    wrong = {one["name"] for one in exam.get("wrong", ())}
    names = list(dict.fromkeys([*expected, *(one["name"] for one in firings)]))[:LANES_MAX]
    if not names:
        return ""
    samples = ours["samples"]
    seen = [one["until_s"] or one["from_s"] for one in firings]
    end_s = max([samples[-1]["at_s"] if samples else 1.0, *seen, 1.0])
    height = TOP + LANE * len(names) + BOTTOM
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Alerts">',
        *_bands(ours["faults"], end_s, height),
        *_unseen(exam.get("gaps") or (), end_s, height),
        *_times(end_s, height),
        f'<text class="title" x="{LEFT}" y="15">Alerts that fired</text>',
    ]
    for number, name in enumerate(names):
        y = TOP + LANE * number
        kind = "right" if name in expected else "wrong" if name in wrong else "other"
        parts.append(f'<path class="grid" d="M{LEFT} {y + LANE}H{WIDTH - RIGHT}"/>')
        parts += _lane(firings, name, kind, y, end_s)
        parts.append(f'<text class="lane" x="{LEFT + 4}" y="{y + 14}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"])


def _lane(
    firings: Sequence[Mapping[str, Any]], name: str, kind: str, y: float, end_s: float
) -> Iterator[str]:
    for one in firings:
        if one["name"] != name:
            continue
        x = _x(one["from_s"], end_s)
        width = max(2.0, _x(end_s if one["until_s"] is None else one["until_s"], end_s) - x)
        until = "still firing" if one["until_s"] is None else f"to {one['until_s']:.1f} s"
        told = escape(f"{name} from {one['from_s']:.1f} s, {until}")
        yield (
            f'<rect class="alert {kind}" x="{x:.1f}" y="{y + 3}" width="{width:.1f}"'
            f' height="{LANE - 6}"><title>{told}</title></rect>'
        )


def _unseen(gaps: Sequence[Mapping[str, Any]], end_s: float, height: int) -> Iterator[str]:
    """Where Prometheus saw nothing."""
    for one in gaps:
        x = _x(one["from_s"], end_s)
        yield (
            f'<rect class="unseen" x="{x:.1f}" y="{TOP}"'
            f' width="{max(2.0, _x(one["until_s"], end_s) - x):.1f}"'
            f' height="{height - TOP - BOTTOM}"><title>nothing was seen</title></rect>'
        )


def thinned(samples: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """At most POINTS_MAX samples, the bad ones among those kept."""
    step = -(-len(samples) // POINTS_MAX)
    if step <= 1:
        return samples
    parts = [samples[at : at + step] for at in range(0, len(samples), step)]
    return [next((one for one in part if one["bad"]), part[-1]) for part in parts]


def _svg(
    chart: Chart, ours: Mapping[str, Any], samples: Sequence[Mapping[str, Any]], end_s: float
) -> str:
    values = [one[line.key] or 0 for line in chart.series for one in samples]
    highest = nice(max(values) or 1.0)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title)}">',
        *_bands(ours["faults"], end_s, HEIGHT),
        *_guard_marks(samples, end_s),
        *_axes(highest, end_s, chart.unit),
        *_phases(ours["phases"], end_s),
    ]
    limit = (ours["guard"] or {}).get(chart.limit) if chart.limit else None
    if limit is not None and limit <= highest:
        at = _y(limit, highest)
        parts.append(
            f'<path class="limit" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"><title>guard: {limit:g}'
            f"{chart.unit}</title></path>"
        )
    parts += [_line(line, samples, highest, end_s) for line in chart.series]
    parts += _legend(chart)
    return "\n".join([*parts, "</svg>"])


def _line(line: Series, samples: Sequence[Mapping[str, Any]], highest: float, end_s: float) -> str:
    path, pen = [], "M"
    for one in samples:
        value = one[line.key]
        if value is None:
            pen = "M"
            continue
        path.append(f"{pen}{_x(one['at_s'], end_s):.1f} {_y(value, highest):.1f}")
        pen = "L"
    return f'<path class="line {line.kind}" d="{"".join(path)}"/>'


def _bands(faults: Sequence[Mapping[str, Any]], end_s: float, height: int) -> Iterator[str]:
    """Each fault from its beginning to its end; a momentary one is a thin band."""
    for one in faults:
        if one["outcome"] == "called off":
            continue
        x = _x(one["began_s"], end_s)
        width = max(3.0, _x(one["ended_s"], end_s) - x)
        told = f"{one['fault']} {one['target']}, {one['outcome']}"
        yield (
            f'<rect class="fault" x="{x:.1f}" y="{TOP}" width="{width:.1f}"'
            f' height="{height - TOP - BOTTOM}"><title>{escape(told)}</title></rect>'
        )


def _guard_marks(samples: Sequence[Mapping[str, Any]], end_s: float) -> Iterator[str]:
    """A mark under the axis for each evaluation that found too much while the guard was armed."""
    for one in samples:
        if one["bad"] and one["guarding"]:
            yield (
                f'<path class="mark" d="M{_x(one["at_s"], end_s):.1f} {HEIGHT - BOTTOM}v5">'
                f"<title>{escape('; '.join(one['bad']))}</title></path>"
            )


def _axes(highest: float, end_s: float, unit: str) -> Iterator[str]:
    for part in range(3):
        value = highest * part / 2
        y = _y(value, highest)
        yield f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
        yield f'<text class="y" x="{LEFT - 6}" y="{y + 4:.1f}">{value:g}{unit}</text>'
    yield from _times(end_s, HEIGHT)


def _times(end_s: float, height: int) -> Iterator[str]:
    step = nice(end_s / 8)
    for number in range(int(end_s / step) + 1):
        x = _x(number * step, end_s)
        yield f'<text class="x" x="{x:.1f}" y="{height - 6}">{number * step:g} s</text>'


def _phases(phases: Sequence[Mapping[str, Any]], end_s: float) -> Iterator[str]:
    for one in phases:
        if one["began_s"] > end_s:
            continue
        x = _x(one["began_s"], end_s)
        width = _x(min(one["ended_s"] or end_s, end_s), end_s) - x
        yield f'<path class="phase" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
        if width >= PHASE_MIN_PX:
            yield f'<text class="phase" x="{x + 4:.1f}" y="{TOP + 12}">{escape(one["name"])}</text>'


def _legend(chart: Chart) -> Iterator[str]:
    yield f'<text class="title" x="{LEFT}" y="15">{escape(chart.title)}</text>'
    x = LEFT + 130
    for line in chart.series:
        yield f'<path class="line {line.kind}" d="M{x} 11h18"/>'
        yield f'<text class="legend" x="{x + 23}" y="15">{escape(line.name)}</text>'
        x += 50 + 8 * len(line.name)


def nice(value: float) -> float:
    """The next round number that is at least `value` (> 0)."""
    power = 1.0
    while power < value:
        power *= 10
    while power >= value * 10:
        power /= 10
    return next(power / 10 * step for step in STEPS if power / 10 * step >= value * (1 - 1e-9))


def _x(at_s: float, end_s: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * min(at_s, end_s) / end_s


def _y(value: float, highest: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(value, highest) / highest
