"""The most telling cures are needed: with each everything holds, without it what must break does.

Each test runs one experiment twice, in labs of their own. The rest: `symphony ablate`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chaos.ablation.cure import Cure
from chaos.ablation.cures import CURES
from chaos.ablation.experiments import EXPERIMENTS
from chaos.ablation.trial import Trial, run_trial
from chaos.ablation.verdict import Row, outcome

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

SEED = 1


@pytest.mark.parametrize(
    "cure", [cure for cure in CURES if cure.tested], ids=lambda cure: cure.name
)
def test_a_cure_is_needed(cure: Cure, public_dir: Path) -> None:
    """The auditor names the intended invariants without the cure, and nothing with it."""
    experiment = EXPERIMENTS[cure.experiment]
    kept = run_trial(experiment, lab_dir=public_dir / "with", seed=SEED)
    removed = run_trial(
        experiment,
        lab_dir=public_dir / "without",
        seed=SEED,
        plugin=cure.plugin,
        patience_s=cure.patience_s,
    )
    row = Row(cure, kept, removed)
    assert row.needed, f"{row.problems}\n{told(kept)}\n{told(removed)}"


def told(trial: Trial) -> str:
    """A run with its first witnesses, for whoever reads a failure."""
    found = trial.document.get("invariants", ())
    shown = {one["id"]: one["witnesses"][:1] for one in found if one["violations"]}
    return f"{trial.plugin or 'with all cures'}: {outcome(trial)} {trial.unrest} {trial.void}\n" + (
        json.dumps(shown, indent=1)
    )
