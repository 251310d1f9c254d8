"""The generated reference pages are those of the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from app import errors, reference

pytestmark = pytest.mark.unit

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def test_the_errors_page_is_current() -> None:
    """`python -m app.errors > docs/reference/errors.md` would change nothing."""
    assert (REFERENCE / "errors.md").read_text(encoding="utf-8") == errors.reference()


def test_the_pages_of_saga_settings_and_topics_are_current() -> None:
    """`python -m app.reference docs/reference` would change nothing."""
    for name, page in reference.PAGES.items():
        assert (REFERENCE / name).read_text(encoding="utf-8") == page(), name
