"""The declared objectives: OpenSLO v1 files beside this module, and their reader.

An objective is declared here and nowhere else. Of OpenSLO (apiVersion openslo/v1, kind SLO) one
objective per file is understood, with `budgetingMethod: Occurrences` over a rolling window. A
metric source is of type `symphony`: `latency: SLI` with a threshold (`op: lte`, `value` in
seconds), or `counts`, a sum of `SLI.good` and `SLI.bad`. A file that says anything else is refused
with its name and the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args

import msgspec
import yaml
from msgspec import Meta

from app.errors import BrokenObjective
from app.slo.burn import Counts
from app.slo.panes import WINDOWS_S, Sli

FILES: Final = Path(__file__).parent
FILE_BYTES_MAX: Final = 65_536
LATENCIES: Final[tuple[Sli, ...]] = ("completion",)
COUNTS: Final = tuple(f"{sli}.{what}" for sli in get_args(Sli) for what in ("good", "bad"))

Name = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,62}$")]
Text = Annotated[str, Meta(max_length=2000)]


class _Open(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """An object of the file; a member that is not declared is an error."""


class _Metadata(_Open, frozen=True):
    name: Name
    display_name: Text = ""
    labels: dict[str, Any] = {}
    annotations: dict[str, str] = {}


class _Latency(_Open, frozen=True):
    latency: str


class _Sum(_Open, frozen=True):
    counts: Annotated[list[str], Meta(min_length=1, max_length=16)]


class _LatencySource(_Open, frozen=True):
    type: Literal["symphony"]
    spec: _Latency


class _CountsSource(_Open, frozen=True):
    type: Literal["symphony"]
    spec: _Sum


class _Threshold(_Open, frozen=True):
    metric_source: _LatencySource


class _Counted(_Open, frozen=True):
    metric_source: _CountsSource


class _Ratio(_Open, frozen=True):
    total: _Counted
    counter: Literal[True] = True
    good: _Counted | None = None
    bad: _Counted | None = None


class _IndicatorSpec(_Open, frozen=True):
    threshold_metric: _Threshold | None = None
    ratio_metric: _Ratio | None = None


class _Indicator(_Open, frozen=True):
    metadata: _Metadata
    spec: _IndicatorSpec


class _TimeWindow(_Open, frozen=True):
    duration: str
    is_rolling: Literal[True]


class _Objective(_Open, frozen=True):
    target: Annotated[float, Meta(gt=0, lt=1)]
    display_name: Text = ""
    op: Literal["lte"] | None = None
    value: Annotated[float, Meta(gt=0, le=86_400)] | None = None


class _Spec(_Open, frozen=True):
    service: Text
    indicator: _Indicator
    time_window: Annotated[list[_TimeWindow], Meta(min_length=1, max_length=1)]
    budgeting_method: Literal["Occurrences"]
    objectives: Annotated[list[_Objective], Meta(min_length=1, max_length=1)]
    description: Text = ""


class _File(_Open, frozen=True):
    api_version: Literal["openslo/v1"]
    kind: Literal["SLO"]
    metadata: _Metadata
    spec: _Spec


class Objective(NamedTuple):
    """One objective. `good`, `bad` are sums of counted things (`availability.bad`); of `good` and
    `bad` the one that the file names is filled, `total` always.

    `threshold_s` is set for a latency objective, whose counts are those of its own SLI.
    """

    name: str
    title: str
    description: str
    target: float
    window: str
    total: tuple[str, ...]
    good: tuple[str, ...] = ()
    bad: tuple[str, ...] = ()
    threshold_s: float | None = None
    label: str = ""

    def counts(self, counted: Mapping[str, int]) -> Counts:
        """Return good and bad events, given how many of each thing were counted."""
        total = sum(counted.get(one, 0) for one in self.total)
        if self.bad:
            bad = sum(counted.get(one, 0) for one in self.bad)
            return Counts(total - bad, bad)
        good = sum(counted.get(one, 0) for one in self.good)
        return Counts(good, total - good)


@cache
def declared() -> Mapping[str, Objective]:
    """Return the objectives of this platform by name; raises BrokenObjective."""
    return read(sorted(FILES.glob("*.yaml")))


def read(paths: Iterable[Path]) -> dict[str, Objective]:
    """Return the objectives of OpenSLO files by name, in the order of the files.

    Raises BrokenObjective for the first file that cannot be used, and when there is none.
    """
    found: dict[str, Objective] = {}
    for path in paths:
        objective = _objective(path)
        if objective.name in found:
            raise BrokenObjective(f"{path.name}: the objective {objective.name} is declared twice")
        found[objective.name] = objective
    if not found:
        raise BrokenObjective("there is no OpenSLO file")
    return found


def completion_s() -> float:
    """Return within which time an order is to complete, as declared; raises BrokenObjective."""
    return threshold_s(declared(), "completion")


def threshold_s(objectives: Mapping[str, Objective], sli: Sli) -> float:
    """Return within which time an event of a latency SLI is good; raises BrokenObjective."""
    for objective in objectives.values():
        if objective.threshold_s is not None and objective.total == (f"{sli}.good", f"{sli}.bad"):
            return objective.threshold_s
    raise BrokenObjective(f"no objective says which latency of {sli} is good")


def _objective(path: Path) -> Objective:
    file = _parsed(path)
    spec, wanted = file.spec, file.spec.objectives[0]
    window = spec.time_window[0].duration
    if window not in WINDOWS_S:
        raise _broken(path, f"timeWindow {window!r}: one of {', '.join(WINDOWS_S)} is expected")
    common = Objective(
        name=file.metadata.name,
        title=file.metadata.display_name or file.metadata.name,
        description=" ".join(spec.description.split()),
        target=wanted.target,
        window=window,
        total=(),
        label=wanted.display_name,
    )
    threshold, ratio = spec.indicator.spec.threshold_metric, spec.indicator.spec.ratio_metric
    if (threshold is None) == (ratio is None):
        raise _broken(path, "the indicator needs either thresholdMetric or ratioMetric")
    if threshold is not None:
        return _of_threshold(path, common, threshold, wanted)
    assert ratio is not None
    return _of_ratio(path, common, ratio, wanted)


def _of_threshold(
    path: Path, common: Objective, metric: _Threshold, wanted: _Objective
) -> Objective:
    sli = metric.metric_source.spec.latency
    if sli not in LATENCIES:
        raise _broken(path, f"latency {sli!r}: one of {', '.join(LATENCIES)} is expected")
    if wanted.op is None or wanted.value is None:
        raise _broken(path, "a thresholdMetric needs an objective with op and value (seconds)")
    return common._replace(
        total=(f"{sli}.good", f"{sli}.bad"), good=(f"{sli}.good",), threshold_s=wanted.value
    )


def _of_ratio(path: Path, common: Objective, ratio: _Ratio, wanted: _Objective) -> Objective:
    if wanted.op is not None or wanted.value is not None:
        raise _broken(path, "op and value belong to a thresholdMetric")
    if (ratio.good is None) == (ratio.bad is None):
        raise _broken(path, "a ratioMetric needs either good or bad, beside total")
    good, bad, total = (_counts(path, one) for one in (ratio.good, ratio.bad, ratio.total))
    return common._replace(good=good, bad=bad, total=total)


def _counts(path: Path, counted: _Counted | None) -> tuple[str, ...]:
    listed = () if counted is None else tuple(counted.metric_source.spec.counts)
    for one in listed:
        if one not in COUNTS:
            raise _broken(path, f"counts {one!r}: some of {', '.join(COUNTS)} are expected")
    return listed


def _parsed(path: Path) -> _File:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        if len(content) > FILE_BYTES_MAX:
            raise _broken(path, f"it is larger than {FILE_BYTES_MAX} bytes")
        return msgspec.convert(yaml.safe_load(content), _File)
    except OSError as error:
        raise _broken(path, error.strerror or type(error).__name__) from None
    except (yaml.YAMLError, msgspec.ValidationError, ValueError, RecursionError) as error:
        raise _broken(path, " ".join(str(error).split())) from None


def _broken(path: Path, reason: str) -> BrokenObjective:
    return BrokenObjective(f"{path.name}: {reason}")
