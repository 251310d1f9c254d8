"""Defects that are planted for one run, to show that the simulation would notice them.

Each takes one cure away from the product, or puts one classic mistake in, by replacing a name for
the time of a run. Nothing of this can be switched on outside the simulation.
"""

from __future__ import annotations

from chaos.simulation.plants import core, database, roles
from chaos.simulation.plants.registry import PLANTS, Plant, planted

__all__ = ["PLANTS", "Plant", "core", "database", "planted", "roles"]
