"""What an order's two books say together."""

from __future__ import annotations

import pytest

from chaos.control.dual_write import defect_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("stored", "published", "waiting", "defect"),
    [
        (False, False, False, ""),
        (True, True, False, ""),
        (True, False, True, ""),
        (True, False, False, "lost"),
        (False, True, False, "phantom"),
        (False, False, True, "phantom"),
    ],
)
def test_an_event_that_waits_is_not_lost(
    stored: bool, published: bool, waiting: bool, defect: str
) -> None:
    """Lost: nothing will publish it. Phantom: it is, or will be, there without an order."""
    assert defect_of(stored=stored, published=published, waiting=waiting) == defect
