"""What a campaign will do: which faults in which run, a function of seed and matrix. Pure.

All cells of the matrix are dealt like a deck of cards, so that every fault meets every target
before any is repeated. That a cell is impossible at the moment changes nothing: another machine, or
this one with more free memory, deals the same, and the nemesis skips what it cannot do. The faults
of a run are dealt into lanes by what they strike: within a lane they follow each other, lanes run
beside each other, and no target is struck by two at once.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from chaos.nemesis.engine import Action, Cell

GAP_MIN_S, GAP_MAX_S = 0.5, 3.0
FIRST_LANE = frozenset({"web", "orchestrator", "shipping"})
"""Roles whose workers are struck in a lane of their own: most cells of the matrix are workers."""
SERVERS = frozenset({"broker", "postgres", "kafka-proxy", "postgres-proxy", "kafka", "proxy"})


class Planned(NamedTuple):
    """One action, and how long its lane pauses before it."""

    pause_s: float
    action: Action


class RunPlan(NamedTuple):
    """One run: its number from 0, its own seed, and its lanes by name."""

    number: int
    seed: int
    lanes: dict[str, tuple[Planned, ...]]

    @property
    def actions(self) -> list[Action]:
        """All actions, lane by lane."""
        return [planned.action for lane in self.lanes.values() for planned in lane]


def plan_run(seed: int, number: int, cells: Sequence[Cell], faults: int) -> RunPlan:
    """Return run `number` of the campaign `seed`: the same for the same matrix.

    Raises ValueError when nothing in the matrix is possible.
    """
    if all(cell.reason for cell in cells):
        raise ValueError("no fault is possible in this lab")
    deck = sorted({(cell.fault, cell.target) for cell in cells})
    own_seed = random.Random(f"{seed}/{number}").randrange(2**31)
    luck = random.Random(own_seed)
    lanes: dict[str, list[Planned]] = {}
    for fault, target in _dealt(seed, deck, number * faults, faults):
        action = Action(fault, target, seed=luck.randrange(2**31))
        pause_s = luck.uniform(GAP_MIN_S, GAP_MAX_S)
        lanes.setdefault(lane_of(target), []).append(Planned(pause_s, action))
    return RunPlan(number, own_seed, {name: tuple(lane) for name, lane in sorted(lanes.items())})


def lane_of(target: str) -> str:
    """Return the lane of a target: one of two for workers, servers, or whatever else it strikes."""
    if target in SERVERS:
        return "servers"
    role, _, number = target.rpartition("-")
    if not number.isdigit():
        return "others"
    return "workers" if role in FIRST_LANE else "more workers"


def _dealt(
    seed: int, cards: Sequence[tuple[str, str]], skip: int, count: int
) -> Iterator[tuple[str, str]]:
    """Cards `skip` to `skip + count` of endlessly many decks, each shuffled anew."""
    size = len(cards)
    for place in range(skip, skip + count):
        deck = list(cards)
        random.Random(f"{seed}/deck/{place // size}").shuffle(deck)
        yield deck[place % size]
