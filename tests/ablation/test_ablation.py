"""The most telling cures are needed: with each everything holds, without it what must break does.

Each experiment runs in a lab of its own, once with all cures and once without each. The rest of
them: `symphony ablate`; that the outbox is needed is shown by tests/lessons.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.ablation.cure import Cure
from chaos.ablation.cures import CURES
from chaos.ablation.experiments import EXPERIMENTS
from chaos.ablation.trial import Trial, run_trial
from chaos.ablation.verdict import Row, outcome

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

SEED = 1


@pytest.fixture(scope="module")
def kept(servers_dir: Path) -> Callable[[str], Trial]:
    """The trial of an experiment with all cures, by its name; run once."""

    @functools.cache
    def trial(name: str) -> Trial:
        return run_trial(EXPERIMENTS[name], lab_dir=servers_dir / f"kept-{name}", seed=SEED)

    return trial


@pytest.mark.parametrize(
    "cure", [cure for cure in CURES if cure.tested], ids=lambda cure: cure.name
)
def test_a_cure_is_needed(cure: Cure, kept: Callable[[str], Trial], public_dir: Path) -> None:
    """The auditor names the intended invariants without the cure, and nothing with it."""
    whole = kept(cure.experiment)
    removed = run_trial(
        EXPERIMENTS[cure.experiment],
        lab_dir=public_dir / "without",
        seed=SEED,
        plugin=cure.plugin,
        patience_s=cure.patience_s,
    )
    row = Row(cure, whole, removed)
    assert row.needed, f"{row.problems}\n{told(whole)}\n{told(removed)}"


def told(trial: Trial) -> str:
    """A run with its first witnesses, for whoever reads a failure."""
    found = trial.document.get("invariants", ())
    shown = {one["id"]: one["witnesses"][:1] for one in found if one["violations"]}
    return f"{trial.plugin or 'with all cures'}: {outcome(trial)} {trial.unrest} {trial.void}\n" + (
        json.dumps(shown, indent=1)
    )
