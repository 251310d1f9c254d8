"""What a subject is exempt from is declared by the names of tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.roles import ROLES
from tests.conformance.subjects import SUBJECTS

pytestmark = pytest.mark.unit


def test_exemptions_name_tests_of_the_suite() -> None:
    """A renamed test must not be left out by a declaration that nobody reads."""
    files = Path(__file__).parent.glob("test_*.py")
    suite = {
        name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)
    }
    for subject in SUBJECTS.values():
        assert set(subject.exempt) <= suite, subject.name


def test_every_consuming_role_is_a_subject() -> None:
    """A new agent goes through the suite."""
    consuming = {role.name for role in ROLES.values() if role.consumes}
    assert {subject.role for subject in SUBJECTS.values()} == consuming
