"""What makes a file an experiment that can be run: checks, each of which raises Mistake with the
line and what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from chaoslib.exceptions import ChaosException
from chaoslib.experiment import ensure_experiment_is_valid

from chaos.gameday.activities import (
    ACTIONS,
    INJECTING,
    activities,
    arguments_of,
    at_of,
    func_of,
)
from chaos.gameday.experiment import Ours
from chaos.gameday.rules import BadRule, check_arguments
from chaos.gameday.source import Place, Source
from chaos.nemesis.faults import REGISTRY
from chaos.observe.alerts import ALERTS
from chaos.workload.mix import Outcome

CONTROL = "chaos.gameday.control"
ALERT_NAMES = frozenset(one.name for one in ALERTS)


def check(source: Source, place: Place, ours: Ours) -> None:
    """Check everything, the extension `ours` at `place` included. Raises Mistake."""
    _chaos_toolkit(source)
    _check_mix(source, place, ours)
    _check_exam(source, place, ours)
    _check_frame(source)
    for where, activity in activities(source.data):
        _check_activity(source, where, activity)
    _check_method(source)


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
    for place, activity in activities(source.data):
        if isinstance(activity, dict) and activity.get("name") and str(activity["name"]) in reason:
            return _inside(place, activity, reason)
    for place, activity in activities(source.data):
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


def _check_mix(source: Source, place: Place, ours: Ours) -> None:
    for name in ours.mix:
        if name not in set(Outcome):
            known = ", ".join(Outcome)
            raise source.mistake((*place, "mix", name), f"mix.{name}: unknown; known here: {known}")
    if ours.mix and not sum(ours.mix.values()):
        raise source.mistake((*place, "mix"), "mix: not all shares may be 0")


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
        if isinstance(one, dict) and func_of(one) in INJECTING
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
    if "end_faults" not in [func_of(one) for one in data.get("rollbacks", ())]:
        raise source.mistake(("rollbacks",), f"rollbacks must hold {ACTIONS}.end_faults")


def _check_method(source: Source) -> None:
    funcs = [func_of(one) for one in source.data["method"]]
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
    func = func_of(activity)
    inside: Place = (*place, "provider", "arguments")
    if func in INJECTING:
        if not activity.get("background"):
            raise source.mistake(place, f"{func} needs background: true, to begin when it is due")
        if not 0 <= at_of(activity) < 1:
            raise source.mistake(
                (*inside, "at"), "at: a share of the duration from 0 to below 1 is expected"
            )
    if func == "inject":
        _check_fault(source, inside, arguments_of(activity))
    if func == "chaos_rule":
        try:
            check_arguments(arguments_of(activity))
        except BadRule as error:
            member = (error.member,) if error.member else ()
            raise source.mistake((*inside, *member), error.reason) from None
    if func in INJECTING:
        _check_lasting(source, inside, arguments_of(activity))


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
