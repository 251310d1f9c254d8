"""Where a GameDay is: its clock, its phases, and what a person is told on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

Say = Callable[[str], None]


class Phase(NamedTuple):
    """A part of the GameDay, in seconds from its beginning; the last one may go on."""

    name: str
    began_s: float
    ended_s: float | None = None


class Timeline:
    """Begins when it is made; phases follow each other, each ended by the next one.

    `say` gets lines for a person, `entered` the name of each phase that begins.
    """

    def __init__(self, say: Say, entered: Callable[[str], object] = lambda _: None) -> None:
        self.began_s = time.time()
        self.phases: list[Phase] = []
        self._say, self._entered = say, entered

    @property
    def now_s(self) -> float:
        """Seconds since the GameDay began."""
        return round(time.time() - self.began_s, 3)

    @property
    def present(self) -> str:
        """The name of the newest phase; empty before the first."""
        return self.phases[-1].name if self.phases else ""

    def enter(self, name: str) -> None:
        """The phase before is over, and this one begins."""
        self.leave()
        self.phases.append(Phase(name, self.now_s))
        self.say(name)
        self._entered(name)

    def leave(self) -> None:
        """The newest phase is over; harmless to repeat."""
        if self.phases and self.phases[-1].ended_s is None:
            self.phases[-1] = self.phases[-1]._replace(ended_s=self.now_s)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What happens inside belongs to this phase."""
        self.enter(name)
        try:
            yield
        finally:
            self.leave()

    def say(self, line: str) -> None:
        """Tell a person what happens now."""
        self._say(f"{self.now_s:6.1f} s  {line}")

    def detail(self, line: str) -> None:
        """Tell more of what was said last."""
        self._say(f"          {line}")
