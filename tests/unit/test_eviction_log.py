"""What the supervisor's log says while an eviction is tried again and again."""

from __future__ import annotations

import pytest

from chaos.lab.eviction import Sparse

pytestmark = pytest.mark.unit


def test_a_repeated_failure_is_told_at_first_and_then_sparsely() -> None:
    """Of tries every half second, the first is told and then one in five seconds."""
    now_s = 0.0
    told: list[str] = []
    complain = Sparse(told.append, 5.0, monotonic=lambda: now_s)
    for number in range(24):
        now_s = number * 0.5
        complain(f"at {now_s:g} s")
    assert told == ["at 0 s", "at 5 s", "at 10 s"]
