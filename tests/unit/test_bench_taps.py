"""What the bench of chaos rules times: the product's own functions, with and without their taps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, cast

import pytest

from app.taps import Taps
from bench import taps


@pytest.fixture(autouse=True)
def _loud_again() -> Iterator[None]:
    """The bench silences the laboratory's log; other tests read it."""
    log = logging.getLogger("chaos")
    level = log.level
    yield
    log.setLevel(level)


class Dear(Taps):
    """Taps that are off and cost 50 us to ask."""

    @property
    def outgoing(self) -> tuple[Any, ...]:  # type: ignore[override]
        until = time.process_time() + 50e-6
        while time.process_time() < until:
            pass
        return ()

    @outgoing.setter
    def outgoing(self, hooks: tuple[Any, ...]) -> None:
        """It stays off."""


async def send(taps: Any, outputs: Sequence[Any]) -> None:
    """As product functions ask."""
    for one in outputs:
        for _ in await taps.on_send(one) if taps.outgoing else (one,):
            pass


async def send_always(taps: Any, outputs: Sequence[Any]) -> None:
    """No test stands before the call."""
    for one in outputs:
        for _ in await taps.on_send(one):
            pass


def call(function: Callable[..., Any], given: Taps) -> Callable[[], Any]:
    return partial(function, given, [None] * 10)


def test_every_place_costs_what_is_spent_there() -> None:
    """All are found, each function's taps can be taken out, and rules that are over cost little."""
    found = taps.off_us(2_000)
    assert len(found) == len(taps.PLACES)
    assert sum(found.values()) < 50, found


async def test_a_dear_tap_is_seen() -> None:
    """What the product spends to ask is what the bench tells."""
    place = taps.Place(send, call, 10)
    assert await taps._difference_us(place, Dear(), 2_000) > 25


@pytest.mark.parametrize("function", [send_always, call], ids=["always", "none"])
def test_what_cannot_be_taken_out_is_an_error(function: Any) -> None:
    """A tap that is asked otherwise, or not at all, is never a zero."""
    with pytest.raises(taps.NotTakenOut, match="cannot be taken out"):
        taps.without_taps(cast("Callable[..., Any]", function))
