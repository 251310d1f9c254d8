"""An experiment: a Chaos Toolkit file, what is ours in it, and what it will do for a seed. Pure but
for reading the file.

What is ours stands in the extension `chaos-symphony` and in `configuration`, so that the stock
`chaos run` takes the same file, `--var` included.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from chaoslib.exceptions import ChaosException
from chaoslib.experiment import ensure_experiment_is_valid

from chaos.gameday.guard import Limits
from chaos.gameday.rules import BadRule, check_arguments
from chaos.gameday.source import Mistake, Place, Source, place_of
from chaos.gameday.verdict import Word
from chaos.nemesis.faults import REGISTRY
from chaos.observe.alerts import ALERTS
from chaos.observe.exam import AlertName, Expected, Sheet
from chaos.workload.mix import DEFAULT_MIX, Outcome

EXTENSION = "chaos-symphony"
CONTROL = "chaos.gameday.control"
ACTIONS = "chaos.gameday.actions"
INJECTING = frozenset({"inject", "chaos_rule"})
ALERT_NAMES = frozenset(one.name for one in ALERTS)

NAME = Annotated[str, msgspec.Meta(min_length=1)]


class Knobs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The experiment's `configuration`: what a run may override.

    Orders come at `rate_per_s` from the beginning to the end. They flow for `warm_up_s` before the
    first look; faults happen within `duration_s`; `recovery_s` is how long the steady state may
    take to come back. Same `seed`, same orders, same victims.
    """

    rate_per_s: Annotated[float, msgspec.Meta(ge=0.5, le=2_000)] = 20.0
    duration_s: Annotated[float, msgspec.Meta(ge=1, le=3_600)] = 60.0
    warm_up_s: Annotated[float, msgspec.Meta(ge=0, le=600)] = 8.0
    recovery_s: Annotated[float, msgspec.Meta(ge=1, le=1_800)] = 90.0
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 1


class Ours(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The extension `chaos-symphony`. `no_alerts_because`: why no alert has to fire."""

    name: str
    hypothesis: NAME
    scenario: NAME
    expected: Word = "passed"
    mix: dict[str, Annotated[float, msgspec.Meta(ge=0)]] = {}
    orders_min: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 50
    needs: list[str] = []
    guard: Limits = Limits()
    alerts: list[Expected] | None = None
    tolerated: list[AlertName] = []
    silent: list[AlertName] = []
    no_alerts_because: str = ""
    exam: Literal["optional", "required"] = "optional"

    @property
    def sheet(self) -> Sheet | None:
        """What the alert exam asks; None when the experiment says nothing of alerts."""
        if self.alerts is None and not self.silent:
            return None
        return Sheet(tuple(self.alerts or ()), frozenset(self.tolerated), tuple(self.silent))


class Strike(NamedTuple):
    """One fault that is planned: when it begins, in seconds from the method's beginning."""

    name: str
    action: str
    begins_s: float
    arguments: Mapping[str, Any]


class Experiment(NamedTuple):
    """A valid experiment; `data` is the whole file as Chaos Toolkit takes it."""

    name: str
    path: Path
    data: dict[str, Any]
    ours: Ours
    knobs: Knobs

    @property
    def title(self) -> str:
        """Its title in one line."""
        return str(self.data["title"])

    @property
    def mix(self) -> dict[Outcome, float]:
        """Shares of the classes of orders."""
        return {Outcome(name): share for name, share in self.ours.mix.items()} or DEFAULT_MIX

    def with_overrides(self, overrides: Mapping[str, Any]) -> Experiment:
        """The same with other knobs. Raises Mistake naming the one that cannot be."""
        given = {name: value for name, value in overrides.items() if value is not None}
        try:
            knobs = msgspec.convert({**msgspec.structs.asdict(self.knobs), **given}, Knobs)
        except msgspec.ValidationError as error:
            raise Mistake(self.path, 1, _in_words(error)) from None
        return self._replace(knobs=knobs)

    def plan(self) -> list[Strike]:
        """What will be broken and when: a function of file, duration and seed."""
        return sorted(
            (
                Strike(one["name"], func, _at(one) * self.knobs.duration_s, _arguments(one))
                for one in self.data["method"]
                if (func := _func(one)) in INJECTING
            ),
            key=lambda strike: strike.begins_s,
        )

    @property
    def digest(self) -> str:
        """A hash of all that decides what a run does."""
        whole = [self.data, msgspec.to_builtins(self.knobs)]
        return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()


def load(path: Path, text: str | None = None) -> Experiment:
    """Read and check an experiment. Raises Mistake with the line and what is wrong."""
    source = Source(path, text)
    data = source.data
    number, ours = _extension(source)
    knobs = _knobs(source)
    _chaos_toolkit(source)
    _check_mix(source, number, ours)
    _check_exam(source, ("extensions", number), ours)
    _check_frame(source)
    for place, activity in _activities(data):
        _check_activity(source, place, activity)
    _check_method(source)
    return Experiment(path.stem, path, data, ours, knobs)


def of_data(data: dict[str, Any], configuration: Mapping[str, Any]) -> Experiment:
    """The experiment that somebody else has loaded and now runs with this configuration."""
    ours = next((one for one in data.get("extensions", ()) if one.get("name") == EXTENSION), None)
    if ours is None:
        raise Mistake(Path(str(data.get("title"))), 1, f"there is no extension {EXTENSION}")
    known = {field.name for field in msgspec.structs.fields(Knobs)}
    try:
        return Experiment(
            str(data["title"]),
            Path(),
            data,
            msgspec.convert(ours, Ours),
            msgspec.convert(
                {key: value for key, value in configuration.items() if key in known},
                Knobs,
                strict=False,  # `chaos run --var` gives texts
            ),
        )
    except msgspec.ValidationError as error:
        raise Mistake(Path(str(data["title"])), 1, _in_words(error)) from None


def _extension(source: Source) -> tuple[int, Ours]:
    listed = source.data.get("extensions")
    if not isinstance(listed, list):
        raise source.mistake(("extensions",), f"extensions must hold one named {EXTENSION}")
    for number, one in enumerate(listed):
        if isinstance(one, dict) and one.get("name") == EXTENSION:
            return number, _converted(source, ("extensions", number), one, Ours)
    raise source.mistake(("extensions",), f"there is no extension {EXTENSION}")


def _knobs(source: Source) -> Knobs:
    found: Knobs = _converted(
        source, ("configuration",), source.data.get("configuration", {}), Knobs
    )
    return found


def _converted(source: Source, place: Place, value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        reason, _, pointer = str(error).partition(" - at `")
        inside = place_of(pointer.rstrip("`"))
        name = ".".join(map(str, inside)) or str(place[0])
        if field := _unknown_field(reason):
            inside = (*inside, field)
            known = ", ".join(field.name for field in msgspec.structs.fields(kind))
            reason = f"unknown; known here: {known}" if len(inside) == 1 else reason
            name = ".".join(map(str, inside))
        raise source.mistake((*place, *inside), f"{name}: {reason}") from None


def _unknown_field(reason: str) -> str:
    before, quote, name = reason.rpartition("unknown field `")
    del before
    return name.rstrip("`") if quote else ""


def _in_words(error: msgspec.ValidationError) -> str:
    reason, _, pointer = str(error).partition(" - at `$.")
    return f"{pointer.rstrip('`')}: {reason}" if pointer else reason


def _chaos_toolkit(source: Source) -> None:
    """Whatever Chaos Toolkit itself finds wrong, with the line of the activity it names."""
    try:
        ensure_experiment_is_valid(source.data)
    except ChaosException as error:
        reason = " ".join(str(error).split())
        raise source.mistake(_named_in(source, reason), reason) from None
    except (AttributeError, KeyError, TypeError) as error:
        raise source.mistake(
            (), f"its form is not that of an experiment: {type(error).__name__}: {error}"
        ) from None


def _named_in(source: Source, reason: str) -> Place:
    for place, activity in _activities(source.data):
        if isinstance(activity, dict) and activity.get("name") and str(activity["name"]) in reason:
            return _inside(place, activity, reason)
    for place, activity in _activities(source.data):
        if isinstance(activity, dict) and (inside := _inside(place, activity, reason)) != place:
            return inside
    return next(((key,) for key in source.data if str(key) in reason), ())


def _inside(place: Place, activity: Mapping[str, Any], reason: str) -> Place:
    """The part of an activity that a reason quotes, or else all of it."""
    provider = activity.get("provider")
    if not isinstance(provider, dict):
        return place
    for key in ("module", "func"):
        if f"'{provider.get(key)}'" in reason:
            place = (*place, "provider", key)
    arguments = provider.get("arguments")
    for key in arguments if isinstance(arguments, dict) else ():
        if f"'{key}'" in reason:
            return (*place, "provider", "arguments", key)
    return place


def _activities(data: Mapping[str, Any]) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Every activity with its place, as far as the form is right."""
    hypothesis = data.get("steady-state-hypothesis")
    probes = hypothesis.get("probes") if isinstance(hypothesis, dict) else None
    lists: tuple[tuple[Place, Any], ...] = (
        (("steady-state-hypothesis", "probes"), probes),
        (("method",), data.get("method")),
        (("rollbacks",), data.get("rollbacks")),
    )
    for place, listed in lists:
        for number, one in enumerate(listed if isinstance(listed, list) else ()):
            yield (*place, number), one


def _check_mix(source: Source, number: int, ours: Ours) -> None:
    for name in ours.mix:
        if name not in set(Outcome):
            known = ", ".join(Outcome)
            raise source.mistake(
                ("extensions", number, "mix", name), f"mix.{name}: unknown; known here: {known}"
            )
    if ours.mix and not sum(ours.mix.values()):
        raise source.mistake(("extensions", number, "mix"), "mix: not all shares may be 0")


def _check_exam(source: Source, place: Place, ours: Ours) -> None:
    """The questions of the alert exam: known alerts, each asked once, about faults there are."""
    if ours.exam == "required" and not (ours.sheet and ours.sheet.asked):
        raise source.mistake((*place, "exam"), "exam: required, but no alerts are expected")
    if ours.alerts and ours.no_alerts_because:
        raise source.mistake((*place, "no_alerts_because"), "no_alerts_because: there are alerts")
    method = source.data.get("method")
    faults = {
        str(one.get("name"))
        for one in (method if isinstance(method, list) else ())
        if isinstance(one, dict) and _func(one) in INJECTING
    }
    asked: set[tuple[str, str | None]] = set()
    for number, one in enumerate(ours.alerts or ()):
        here = (*place, "alerts", number)
        _check_alert(source, (*here, "name"), one.name)
        if one.fault is not None and one.fault not in faults:
            known = ", ".join(sorted(faults)) or "none"
            raise source.mistake(
                (*here, "fault"),
                f"{one.name}: the method has no fault {one.fault!r}; it has: {known}",
            )
        if (one.name, one.fault) in asked:
            raise source.mistake(here, f"{one.name} is expected twice")
        asked.add((one.name, one.fault))
    expected = {name for name, _ in asked}
    for key, listed in (("tolerated", ours.tolerated), ("silent", ours.silent)):
        for number, name in enumerate(listed):
            _check_alert(source, (*place, key, number), name)
            if name in expected:
                raise source.mistake((*place, key, number), f"{name} is expected and {key}")
    for name in set(ours.tolerated) & set(ours.silent):
        raise source.mistake((*place, "silent"), f"{name} is tolerated and silent")


def _check_alert(source: Source, place: Place, name: str) -> None:
    if name not in ALERT_NAMES:
        near = get_close_matches(name, ALERT_NAMES, n=3) or sorted(ALERT_NAMES)
        raise source.mistake(place, f"there is no alert {name!r}; known: {', '.join(near)}")


def _check_frame(source: Source) -> None:
    """What makes the rollback certain, and what the verdict rests on."""
    data = source.data
    controls = [one.get("provider", {}).get("module") for one in data.get("controls", ())]
    if controls != [CONTROL]:
        raise source.mistake(("controls",), f"controls must be one of module {CONTROL}")
    strategy: Any = data
    for key in ("runtime", "rollbacks", "strategy"):
        strategy = strategy.get(key) if isinstance(strategy, dict) else None
    if strategy != "always":
        raise source.mistake(
            ("runtime", "rollbacks", "strategy"),
            "runtime.rollbacks.strategy must be always: the default leaves chaos behind a failure",
        )
    if not data.get("steady-state-hypothesis", {}).get("probes"):
        raise source.mistake(
            ("steady-state-hypothesis",), "a steady-state-hypothesis with probes is needed"
        )
    if "end_faults" not in [_func(one) for one in data.get("rollbacks", ())]:
        raise source.mistake(("rollbacks",), f"rollbacks must hold {ACTIONS}.end_faults")


def _check_method(source: Source) -> None:
    funcs = [_func(one) for one in source.data["method"]]
    if not INJECTING & set(funcs):
        raise source.mistake(("method",), "the method breaks nothing: inject a fault")
    if [name for name in funcs if name in ("hold", "recover")] != ["hold", "recover"]:
        raise source.mistake(
            ("method",), "the method must hold once and then recover once, after all faults"
        )
    last = max(number for number, name in enumerate(funcs) if name in INJECTING)
    if last > funcs.index("hold"):
        raise source.mistake(("method", last), "it would begin after the GameDay is over")


def _check_activity(source: Source, place: Place, activity: dict[str, Any]) -> None:
    func = _func(activity)
    inside: Place = (*place, "provider", "arguments")
    if func in INJECTING:
        if not activity.get("background"):
            raise source.mistake(place, f"{func} needs background: true, to begin when it is due")
        if not 0 <= _at(activity) < 1:
            raise source.mistake(
                (*inside, "at"), "at: a share of the duration from 0 to below 1 is expected"
            )
    if func == "inject":
        _check_fault(source, inside, _arguments(activity))
    if func == "chaos_rule":
        try:
            check_arguments(_arguments(activity))
        except BadRule as error:
            member = (error.member,) if error.member else ()
            raise source.mistake((*inside, *member), error.reason) from None
    if func in INJECTING:
        _check_lasting(source, inside, _arguments(activity))


def _check_fault(source: Source, inside: Place, arguments: Mapping[str, Any]) -> None:
    fault = REGISTRY.get(str(arguments.get("fault")))
    if fault is None:
        known = ", ".join(REGISTRY)
        raise source.mistake(
            (*inside, "fault"), f"unknown fault {arguments.get('fault')!r}; known: {known}"
        )
    given = arguments.get("params") or {}
    if not isinstance(given, dict):
        raise source.mistake((*inside, "params"), "params: a mapping is expected")
    for name in given:
        if name not in fault.params:
            known = ", ".join(fault.params) or "none"
            raise source.mistake(
                (*inside, "params", name),
                f"{fault.name} has no parameter {name}; it has: {known}",
            )


def _check_lasting(source: Source, inside: Place, arguments: Mapping[str, Any]) -> None:
    for_s = arguments.get("for_s")
    if for_s is not None and not (isinstance(for_s, int | float) and 0 < for_s <= 3_600):
        raise source.mistake((*inside, "for_s"), "for_s: seconds from 0 to 3600 are expected")


def _func(activity: Any) -> str:
    """Which of our actions an activity calls, empty when it calls none."""
    provider = activity.get("provider", {}) if isinstance(activity, dict) else {}
    return str(provider.get("func", "")) if provider.get("module") == ACTIONS else ""


def _arguments(activity: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = activity["provider"].get("arguments") or {}
    return found


def _at(activity: Mapping[str, Any]) -> float:
    at = _arguments(activity).get("at", 0.0)
    return float(at) if isinstance(at, int | float) else -1.0
