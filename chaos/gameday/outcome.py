"""What stays of a GameDay: its journal, its report, its line in the history."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from chaos.gameday.ending import Ending, end
from chaos.gameday.game import Game
from chaos.gameday.report import write_all

KEY = "x-symphony"


def conclude(game: Game, journal: dict[str, Any] | None) -> None:
    """End and judge `game` and write everything down; the journal gets what is ours."""
    journal = journal if journal is not None else {}
    steady = journal.get("steady_states") or {}
    before, after = _met(steady.get("before")), _met(steady.get("after"))
    if journal.get("status") == "aborted" and not game.aborted:
        game.found_broken("the method broke off with an error: see the journal's run")
    ending = end(game, before, after)
    verdict = ending.verdict
    began = time.monotonic()
    with game.timeline.phase("report"):
        if verdict.word == "failed":
            journal["deviated"] = True
        journal[KEY] = _ours(game, ending)
    # the report's own phase is closed, so that it is in the report
    journal[KEY]["phases"] = [one._asdict() for one in game.timeline.phases]
    write_all(game.report_dir, plain(journal))
    journal[KEY]["report_s"] = round(time.monotonic() - began, 2)
    # once more: what it took stands in it
    page = write_all(game.report_dir, plain(journal))
    game.verdict = verdict
    try:
        game.recorder.end(verdict, plain(journal), page)
    finally:
        game.close()


def plain(journal: Mapping[str, Any]) -> dict[str, Any]:
    """The journal as JSON can hold it."""
    found: dict[str, Any] = json.loads(json.dumps(journal, default=str))
    return found


def _met(state: Any) -> bool | None:
    if not isinstance(state, Mapping) or state.get("steady_state_met") is None:
        return None
    return bool(state["steady_state_met"])


def _ours(game: Game, ending: Ending) -> dict[str, Any]:
    experiment = game.experiment
    ours, verdict = experiment.ours, ending.verdict
    return {
        "format": 1,
        "run_id": game.run_id,
        "experiment": experiment.name,
        "scenario": ours.scenario,
        "hypothesis": ours.hypothesis,
        "verdict": verdict.word,
        "reasons": list(verdict.reasons),
        "expected": ours.expected,
        "as_expected": verdict.word == ours.expected,
        "aborted": game.aborted,
        "digest": experiment.digest,
        "knobs": msgspec.to_builtins(experiment.knobs),
        "mix": {str(name): share for name, share in experiment.mix.items()},
        "guard": msgspec.to_builtins(ours.guard),
        "began": datetime.fromtimestamp(game.timeline.began_s, UTC).isoformat(timespec="seconds"),
        "phases": [one._asdict() for one in game.timeline.phases],
        "faults": [one._asdict() for one in game.strikes.struck],
        "samples": game.monitor.samples,
        "load": {
            "sent": game.traffic.sent,
            "accepted": game.traffic.accepted,
            "orders_min": ours.orders_min,
            "ledger": str(game.traffic.ledger),
        },
        "steady_after_rollback": ending.steady_after,
        "audit": ending.audit,
        "exam": ending.exam,
        "environment": {"python": platform.python_version(), "machine": platform.platform()},
        "repeat": repeat(game),
        "settle_s": _rounded(ending.settle_s),
        "audit_s": _rounded(ending.audit_s),
        "report_s": None,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def repeat(game: Game) -> str:
    """The command that does the same again."""
    knobs = game.experiment.knobs
    return (
        f"symphony gameday run {game.experiment.name} --seed {knobs.seed}"
        f" --duration {knobs.duration_s:g}s --rate {knobs.rate_per_s:g}"
    )
