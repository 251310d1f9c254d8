"""The list of cures is true: every plug-in is loud, lab-only, listed, and says what breaks."""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from typer.testing import CliRunner

from app.cli import root
from app.factory import NotALab, create_app
from app.settings import Settings
from chaos.ablation.command import register
from chaos.ablation.cure import Cure
from chaos.ablation.cures import CURES
from chaos.ablation.experiments import EXPERIMENTS
from chaos.ablation.trial import Trial
from chaos.ablation.verdict import Row, document, markdown, outcome
from chaos.auditor.invariants import CATALOGUE
from chaos.naive import loud

pytestmark = pytest.mark.unit

PAGE = Path(__file__).parents[2] / "docs" / "ablation.md"
NAIVE = Path(loud.__file__).parent
INVARIANTS = {one.id for one in CATALOGUE}
by_name = pytest.mark.parametrize("cure", CURES, ids=lambda one: one.name)


@by_name
def test_a_plugin_says_what_it_removes_and_what_breaks(cure: Cure) -> None:
    """Its docstring names the cure, the fault, and every invariant that must break."""
    said = import_module(cure.plugin).__doc__ or ""
    assert "Cure removed: " in said
    assert "Hurts when: " in said
    broken = said[said.index("Breaks: ") :].replace(",", " ").replace(":", " ").split()
    assert cure.breaks <= set(broken)
    assert cure.breaks
    assert not cure.breaks & cure.drags_along
    assert cure.breaks | cure.drags_along <= INVARIANTS
    assert cure.experiment in EXPERIMENTS


def test_every_plugin_and_every_experiment_is_used() -> None:
    """No naive module without an ablation, no experiment without a cure."""
    installable = {path.stem for path in NAIVE.glob("*.py") if "def install(" in path.read_text()}
    assert installable == {cure.name for cure in CURES}
    assert set(EXPERIMENTS) == {cure.experiment for cure in CURES}
    assert len(CURES) >= 30
    assert sum(cure.tested for cure in CURES) >= 4


@by_name
def test_a_plugin_is_refused_outside_a_lab(cure: Cure) -> None:
    """Settings refuse it, and so does the factory should settings be made otherwise."""
    with pytest.raises(ValueError, match="lab"):
        Settings(role="shipping", plugins=cure.plugin)
    settings = Settings(role="shipping", lab=True, plugins=cure.plugin)
    with pytest.raises(NotALab):
        create_app(settings.model_copy(update={"lab": False}))


def test_a_plugin_is_loud(caplog: pytest.LogCaptureFixture) -> None:
    """The worker that loses a cure warns at its start; others do not."""
    app = SimpleNamespace(role=SimpleNamespace(name="payment"))
    with caplog.at_level(logging.WARNING):
        assert not loud.unsafe(app, "chaos.naive.refund_lost", "refunds", "web")  # type: ignore[arg-type]
        assert caplog.records == []
        assert loud.unsafe(app, "chaos.naive.refund_lost", "refunds", "payment")  # type: ignore[arg-type]
    assert [record.getMessage() for record in caplog.records] == [loud.EVENT]
    assert caplog.records[0].levelno == logging.WARNING


def test_a_seam_that_moved_is_noticed() -> None:
    """A plug-in whose place in production code is gone fails instead of doing nothing."""
    module = ModuleType("production")
    module.here = 1  # type: ignore[attr-defined]
    loud.replace(module, "here", 2)
    assert module.here == 2
    with pytest.raises(AttributeError):
        loud.replace(module, "gone", 2)


HELD = Trial("undisturbed", "", 1, holds=True)
CURE = Cure("x", "cure", "how", "undisturbed", frozenset({"X1", "O4"}), frozenset({"X4"}))


def without(**violated: int) -> Trial:
    """A run without the cure."""
    return Trial("undisturbed", "chaos.naive.x", 1, violated=violated)


def test_a_cure_is_needed_when_exactly_what_must_breaks() -> None:
    """All that must, perhaps what may, nothing else; and everything holds with it."""
    assert Row(CURE, HELD, without(X1=3, O4=1)).needed
    assert Row(CURE, HELD, without(X1=3, O4=1, X4=2)).needed


@pytest.mark.parametrize(
    ("kept", "removed", "problem"),
    [
        (HELD, without(X1=3), "without it O4 still hold"),
        (HELD, without(), "without it O4, X1 still hold"),
        (HELD, without(X1=1, O4=1, P1=1), "without it P1 broke, which nobody declared"),
        (without(X1=1), without(X1=1, O4=1), "with it: X1 (1)"),
        (HELD._replace(holds=False, unrest="busy"), without(X1=1, O4=1), "with it: unknown: busy"),
        (HELD, without(X1=1, O4=1)._replace(void="no crash"), "the run without it is void"),
        (HELD._replace(void="no lab"), without(X1=1, O4=1), "the run with it is void"),
    ],
)
def test_anything_else_is_a_problem(kept: Trial, removed: Trial, problem: str) -> None:
    """A cure that does not matter, a false alarm, a run that proves nothing."""
    row = Row(CURE, kept, removed)
    assert not row.needed
    assert any(one.startswith(problem) for one in row.problems), row.problems


def test_the_table_and_the_document_tell_it() -> None:
    """One line per cure; the document carries everything a machine needs."""
    rows = [Row(CURES[0], HELD, without(X1=3, O4=1)), Row(CURES[1], HELD, without())]
    table = markdown(rows).splitlines()
    assert len(table) == 4
    assert table[2].endswith("| holds | O4 (1), X1 (3) | yes |")
    assert table[3].endswith("| NO |")
    said = document(rows, seed=7, interrupted=False)
    assert (said["seed"], said["needed"]) == (7, 1)
    assert said["cures"][0]["without"]["violated"] == {"X1": 3, "O4": 1}
    assert outcome(HELD) == "holds"


def test_the_command_lists_variants_and_refuses_unknown_ones() -> None:
    """`--list` starts nothing; a name that is none ends with exit code 2 and the names."""
    register(root)
    runner = CliRunner()
    listed = runner.invoke(root, ["ablate", "--list", "--only", "refund_lost"])
    assert listed.exit_code == 0
    assert "refund_lost" in listed.stdout
    assert "dual_write" not in listed.stdout
    refused = runner.invoke(root, ["ablate", "--only", "nonsense"])
    assert refused.exit_code == 2
    assert "refund_lost" in refused.stderr


@by_name
def test_the_page_lists_the_cure(cure: Cure) -> None:
    """docs/ablation.md has a line with what is taken out, the fault, and what must break."""
    fault = EXPERIMENTS[cure.experiment].fault
    broken = ", ".join(sorted(cure.breaks))
    line = f"| `{cure.name}` | {cure.cure} | {cure.removed} | {fault} | {broken} |"
    assert line in PAGE.read_text().splitlines()
