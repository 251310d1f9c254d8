"""Fetches keep their distance, and nothing else of the fetcher is held up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from app.delivery import aiokafka_seams as seams

pytestmark = pytest.mark.unit

REQUESTS = [(1, "fetch")]
RESETS = {1: ["tp"]}
IDLE_S = 0.1


class Clock:
    """The monotonic clock that the seam reads, and the pace it asks for."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.pace_s = 0.05

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(seams, "monotonic", made)
    return made


def paced(clock: Clock, requests: list[Any]) -> Any:
    """What the fetcher is told to do when it would send `requests` now."""

    def actions(_: Any) -> Any:
        return list(requests), RESETS, IDLE_S, False, []

    fetcher = SimpleNamespace(_get_actions_per_node=actions)
    seams.pace_fetches(SimpleNamespace(_fetcher=fetcher), lambda: clock.pace_s)
    return lambda: fetcher._get_actions_per_node(None)


def test_a_fetch_waits_for_its_time_and_is_looked_at_again_then(clock: Clock) -> None:
    """The first leaves at once, the next is held back and the fetcher sleeps only until it may."""
    look = paced(clock, REQUESTS)
    assert look()[0] == REQUESTS
    clock.now_s += 0.02
    requests, _, timeout_s, _, _ = look()
    assert requests == []
    assert timeout_s == pytest.approx(0.03)
    clock.now_s += 0.031
    assert look()[0] == REQUESTS


def test_offset_resets_are_never_held_back(clock: Clock) -> None:
    """A partition without a position gets one whatever the pace."""
    look = paced(clock, REQUESTS)
    look()
    assert look()[1] == RESETS


def test_a_look_without_a_fetch_does_not_count(clock: Clock) -> None:
    """Only what was really sent starts the time until the next."""
    idle, busy = paced(clock, []), paced(clock, REQUESTS)
    assert idle()[2] == IDLE_S
    assert busy()[0] == REQUESTS


def test_without_a_pace_every_fetch_leaves(clock: Clock) -> None:
    """A changelog that is recovered is read as fast as it comes."""
    look = paced(clock, REQUESTS)
    clock.pace_s = 0.0
    assert [look()[0] for _ in range(3)] == [REQUESTS] * 3
