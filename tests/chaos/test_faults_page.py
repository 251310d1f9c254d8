"""The generated page of faults is that of the code, and every fault has a test of its effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.faults import reference
from chaos.nemesis.faults import ALL, REGISTRY
from tests.faults.nemesis_effects import EFFECTS

pytestmark = pytest.mark.unit

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"


def test_the_page_is_current() -> None:
    """`python -m chaos.faults.reference docs/faults.md` would change nothing."""
    assert PAGE.read_text() == reference.page()


def test_names_are_unique_and_told() -> None:
    """A fault is known by its name; the page says what it is and at whom it can be aimed."""
    assert len(REGISTRY) == len(ALL)
    assert all(one.meaning() and one.aims and one.for_s >= 0 for one in ALL)
    assert {one.recovers_from for one in ALL} == {"start", "end", "none"}


def test_every_fault_has_a_test_of_its_effect() -> None:
    """A fault that nobody has seen working proves nothing."""
    assert {effect.fault for effects in EFFECTS for effect in effects} == REGISTRY.keys()
