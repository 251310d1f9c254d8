"""What an invariant is: a sentence, how many items it looks at, and the items that break it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """Safety: something bad never happens. Liveness: something good happens in time."""

    SAFETY = "safety"
    LIVENESS = "liveness"


class Book(StrEnum):
    """A party whose book an invariant needs."""

    LOAD = "load ledger"
    POSTGRES = "PostgreSQL"
    TOPICS = "topics"
    GATEWAY = "gateway ledger"
    NEMESIS = "nemesis ledger"
    NOTICES = "notification sink"


class Invariant(NamedTuple):
    """One invariant over the store's tables and views.

    `examined` is a query of one number; `violations` a query of (item, order id or NULL, what is
    wrong). `needs` are the books it compares. `at_rest`: it can only be judged when nothing moves.
    `optional`: a run may rightly hold nothing to examine (no dead letter, no refusal).
    """

    id: str
    title: str
    needs: tuple[Book, ...]
    examined: str
    violations: str
    kind: Kind = Kind.SAFETY
    at_rest: bool = False
    optional: bool = False
