"""What one run is: seed, orders, kinds of fault and when they end. A run is a function of its plan.

Each kind of fault draws from a generator of its own, so that taking one kind or one order away
leaves the rest as alike as can be: that is what makes shrinking work.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

FAULTS = {
    "kill": "a worker is killed between any two awaits",
    "freeze": "a worker is suspended, shorter or longer than its session (zombie)",
    "rebalance": "partitions are handed out anew, steps running or not",
    "duplicate": "a record is delivered again, at once or much later",
    "late": "a record arrives after later ones",
    "drop": "a record that something re-drives is lost",
    "slow": "some messages take a hundred times as long",
    "seek-race": "the fetch after an assignment starts at the wrong place",
    "table": "a recovered table is older than its changelog, or empty",
    "contention": "PostgreSQL reports deadlocks",
    "lost-answer": "the connection to PostgreSQL breaks before the answer, COMMIT's included",
    "database-outage": "PostgreSQL is away for a while",
    "broker-outage": "Kafka is away for a while",
    "gateway-error": "the payment gateway fails or cannot be reached",
    "gateway-lost-reply": "the gateway acts and its reply is lost",
    "gateway-timeout": "the gateway is silent for a while",
    "cancel": "customers cancel at any moment",
}
"""Every kind of fault, and what it does."""

ORDERS_MAX = 6


class Plan(NamedTuple):
    """One run. `until_s` is the virtual time at which faults end; `workers` is per role."""

    seed: int
    orders: int
    faults: tuple[str, ...]
    until_s: float
    workers: int = 1
    operator: bool = True
    plant: str = ""

    def options(self) -> str:
        """The command line that repeats exactly this run."""
        words = [
            f"--seed {self.seed} --orders {self.orders} --workers {self.workers}",
            f"--until {self.until_s:g}",
            f"--faults {','.join(self.faults) or 'none'}",
        ]
        words += [] if self.operator else ["--no-operator"]
        words += [f"--plant {self.plant}"] if self.plant else []
        return " ".join(words)


def plan_of(seed: int, plant: str = "") -> Plan:
    """Draw the run of a seed: few orders, about half of the kinds of fault (swarm testing)."""
    draw = Random(f"plan:{seed}")
    share = draw.choice((0.2, 0.4, 0.6, 0.8))
    return Plan(
        seed=seed,
        orders=draw.randint(1, ORDERS_MAX),
        faults=tuple(kind for kind in FAULTS if draw.random() < share),
        until_s=float(draw.randint(4, 20)),
        workers=1 + (draw.random() < 0.4),
        operator=draw.random() < 0.7,
        plant=plant,
    )
