"""Where an event that failed alone goes next."""

from __future__ import annotations

import pytest

from app.delivery.failures import ToDeadLetter, ToTier, next_move
from app.errors import Definite, GatewayUnavailable, Indefinite, Overtaken, Poison, SymphonyError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("error", [Indefinite(), GatewayUnavailable(), Overtaken()])
def test_hopeful_errors_climb_the_tiers(error: SymphonyError) -> None:
    """What may work later is tried on rising tiers, then on the last one, then parked."""
    moves = [next_move(error, n, tiers_s=(1, 5), attempts_max=4) for n in range(5)]
    assert moves == [ToTier(1), ToTier(5), ToTier(5), ToDeadLetter(), ToDeadLetter()]


@pytest.mark.parametrize("error", [Poison("bad_command"), Definite()])
def test_hopeless_errors_are_parked_at_once(error: SymphonyError) -> None:
    """What no further try can change goes to the dead letters on its first failure."""
    assert next_move(error, 0, tiers_s=(1, 5), attempts_max=4) == ToDeadLetter()


def test_without_tiers_everything_is_parked() -> None:
    """A worker without retry tiers dead-letters what fails."""
    assert next_move(Indefinite(), 0, tiers_s=(), attempts_max=4) == ToDeadLetter()
