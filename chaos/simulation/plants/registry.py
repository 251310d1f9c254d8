"""The list of planted defects; `@plant` adds to it."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.db.statements import Statement


class Planting(ExitStack):
    """What a defect uses to get in; everything is taken out again at the end of the run."""

    def replace(self, owner: Any, name: str, value: Any) -> None:
        """Let `value` stand for the attribute `name` of a module or class."""
        self.enter_context(patch.object(owner, name, value))

    def replace_statement(self, statement: Statement, function: Any) -> None:
        """Let another function stand for a statement."""
        from chaos.simulation.statements import replaced

        self.enter_context(replaced(statement, function))


class Plant(NamedTuple):
    """A defect: its name, what is wrong, and how it gets in."""

    name: str
    meaning: str
    install: Callable[[Planting], None]


PLANTS: dict[str, Plant] = {}


def plant(name: str) -> Callable[[Callable[[Planting], None]], Callable[[Planting], None]]:
    """Register the decorated installer; the first line of its docstring says what is wrong."""

    def register(install: Callable[[Planting], None]) -> Callable[[Planting], None]:
        meaning = (install.__doc__ or "").strip().splitlines()[0].rstrip(".")
        PLANTS[name] = Plant(name, meaning, install)
        return install

    return register


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Run the block with a defect, or with none for an empty name. KeyError for an unknown one."""
    with Planting() as planting:
        if name:
            PLANTS[name].install(planting)
        yield
