"""The barrier: a message that changes nothing and proves that everything before it is finished.

Whoever wants to know that a consumer has reached the end of a partition writes a barrier there and
waits for its inbox row. A lag of 0 alone is no proof: a commit may run ahead of its effects.
"""

from __future__ import annotations

from typing import ClassVar

from app.messages.body import Body, Id


class Barrier(Body, frozen=True, kw_only=True):
    """Every consumer of a topic may find one there; `nonce` is its event id and its key."""

    KEY: ClassVar[str] = "nonce"
    TYPE: ClassVar[str] = "barrier.v1"

    nonce: Id

    @classmethod
    def ce_type(cls) -> str:
        """The same type on every topic."""
        return cls.TYPE
