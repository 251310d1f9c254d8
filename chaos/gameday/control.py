"""The Chaos Toolkit control that makes an experiment a GameDay, whoever runs the file.

It lets orders flow before the first look at the steady state, arms the guard during the method,
interrupts what goes on once the GameDay is aborted, and afterwards ends faults, waits for the
steady state, audits, judges and reports. What it found stands in the journal beside Chaos
Toolkit's own keys, under `x-symphony`; a failed verdict also sets `deviated`.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Mapping
from types import FrameType
from typing import Any

from chaoslib.exceptions import InterruptExecution
from chaoslib.hypothesis import run_steady_state_hypothesis

from chaos.gameday import session
from chaos.gameday.errors import GameDayError
from chaos.gameday.game import Game
from chaos.gameday.outcome import conclude
from chaos.gameday.parse import of_data
from chaos.gameday.source import Mistake
from chaos.lab.process import LabError

_signals: dict[int, Any] = {}


def before_experiment_control(
    context: dict[str, Any], configuration: Mapping[str, Any] | None = None, **_: Any
) -> None:
    """Begin the GameDay: the one that was prepared in this process, or one of this file."""
    try:
        game = session.going_on() or _of_file(context, configuration or {})
    except (LabError, Mistake) as error:
        raise InterruptExecution(f"the GameDay cannot begin: {error}") from None
    _listen(game)
    game.steady = lambda: _steady(context, configuration or {})
    try:
        game.begin()
    except GameDayError as error:
        session.end()
        raise InterruptExecution(f"the GameDay cannot begin: {error}") from None
    except Exception as error:  # Chaos Toolkit would go on without a word
        game.found_broken(f"orders do not flow: {error}")
        raise InterruptExecution(game.broken) from None
    _interrupt_if_aborted(game)


def _of_file(context: dict[str, Any], configuration: Mapping[str, Any]) -> Game:
    from chaos.gameday.run import prepare

    experiment = of_data(context, configuration)
    return prepare(experiment, requested_by="chaos run", say=_to_stderr)


def before_hypothesis_control(context: dict[str, Any], **_: Any) -> None:
    """Tell the phases apart: the first look is before the method."""
    del context
    game = session.going_on()
    if game is not None and game.timeline.present == "warm-up":
        game.timeline.enter("steady state before")


def before_method_control(context: dict[str, Any], **_: Any) -> None:
    """Arm the guard."""
    del context
    if game := session.going_on():
        game.timeline.enter("method")
        game.method_begins()


def after_method_control(context: dict[str, Any], **_: Any) -> None:
    """What comes now is Chaos Toolkit's second look, unless the GameDay was aborted."""
    del context
    game = session.going_on()
    if game is not None and not game.aborted:
        game.timeline.enter("steady state after")


def before_rollback_control(context: dict[str, Any], **_: Any) -> None:
    """From here on nothing is interrupted."""
    del context
    if game := session.going_on():
        game.timeline.enter("rollback")


def before_activity_control(context: dict[str, Any], **_: Any) -> None:
    """Remember whose thread this is; begin nothing once the GameDay is aborted."""
    session.enter(str(context.get("name", "")))
    if game := session.going_on():
        _interrupt_if_aborted(game)


def after_activity_control(context: dict[str, Any], **_: Any) -> None:
    """Leave the method once the GameDay is aborted."""
    del context
    if game := session.going_on():
        _interrupt_if_aborted(game)


def after_experiment_control(context: dict[str, Any], state: Any = None, **_: Any) -> None:
    """End everything, judge it, and write it down."""
    del context
    game = session.going_on()
    if game is None or not game.timeline.phases:
        return
    try:
        conclude(game, state)
    finally:
        session.end()
        _deafen()


def cleanup_control() -> None:
    """Whatever happened: no signal handler and no lock of ours is left behind."""
    if game := session.going_on():
        game.end_faults()
        game.close()
        session.end()
    _deafen()


def _interrupt_if_aborted(game: Game) -> None:
    """Raise out of what goes on, in the main thread and outside the rollback only."""
    here = threading.current_thread() is threading.main_thread()
    if here and game.aborted and game.timeline.present in INTERRUPTIBLE:
        raise InterruptExecution(game.aborted)


INTERRUPTIBLE = frozenset({"warm-up", "steady state before", "method", "recovery"})


def _steady(experiment: dict[str, Any], configuration: Mapping[str, Any]) -> bool:
    """Whether the experiment's own hypothesis holds now."""
    state = run_steady_state_hypothesis(experiment, dict(configuration), {}, None, None)
    return bool(state and state["steady_state_met"])


def _listen(game: Game) -> None:
    """SIGINT and SIGTERM abort the GameDay; a second one ends the process as usual."""
    if threading.current_thread() is not threading.main_thread():
        return

    def abort(number: int, _frame: FrameType | None) -> None:
        _deafen()
        game.abort(f"{signal.Signals(number).name} came")

    for number in (signal.SIGINT, signal.SIGTERM):
        _signals.setdefault(number, signal.signal(number, abort))


def _deafen() -> None:
    while _signals:
        number, before = _signals.popitem()
        signal.signal(number, before)


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
