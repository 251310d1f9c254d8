"""Statements: SQL text or SQLAlchemy Core expressions, compiled once at import.

Guarantees: compiling happens at import and never per call; parameters pass through SQLAlchemy's
bind processors. Does not guarantee anything about results: rows are what the driver returns.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sqlalchemy import ClauseElement, text
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.sql.compiler import SQLCompiler

from app.db.arrays import array_literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_DIALECT = PGDialect_psycopg2()  # type: ignore[no-untyped-call]
# text() would read `:ids::uuid[]` as the parameter `id`; a space before the cast prevents it.
_PARAMETER_WITH_CAST = re.compile(r"(?<![:\w\\]):(\w+)::")


class Statement:
    """One compiled SQL statement with named parameters; immutable, safe to share.

    `sql` has psycopg2 placeholders (`%(name)s`); `names` are the parameters a caller must give.
    """

    __slots__ = ("_defaults", "_processors", "names", "sql")

    def __init__(
        self,
        sql: str,
        names: frozenset[str],
        defaults: Mapping[str, Any],
        processors: Mapping[str, Callable[[Any], Any]],
    ) -> None:
        self.sql = sql
        self.names = names
        self._defaults = dict(defaults)
        self._processors = dict(processors)

    def bind(self, params: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return what the driver gets for `params`; TypeError for a missing or unknown name."""
        if params.keys() != self.names:
            raise TypeError(
                f"parameters {sorted(params)} do not match {sorted(self.names)} of: {self.sql}"
            )
        bound = {
            name: array_literal(value) if isinstance(value, list) else value
            for name, value in params.items()
        }
        if self._processors or self._defaults:
            bound = {**self._defaults, **bound}
            for name, process in self._processors.items():
                bound[name] = process(bound[name])
        return bound

    def __repr__(self) -> str:
        return f"Statement({self.sql!r})"


def counted(source: str) -> Statement:
    """Compile a write that must touch exactly `rows` rows, one parameter more than `source` has.

    With any other number the round trip that carries it raises app.errors.RowsMissed, so a guarded
    write needs no answer and can travel with COMMIT (`Transaction.later`).
    """
    return statement(
        f"with touched as ({source} returning 1)"
        " select ops.expect_rows(count(*), :rows) from touched"
    )


def statement(source: str | ClauseElement) -> Statement:
    """Compile `source` for PostgreSQL once; call it at import, never per request.

    A string is SQL with `:name` parameters, casts as usual (`:ids::uuid[]`). A Core expression's
    literal values become fixed defaults, its unset bind parameters become the names a caller
    gives. `IN` lists of variable length cannot be compiled once (ValueError): use
    `= any(:ids::uuid[])`.
    """
    if isinstance(source, str):
        source = text(_PARAMETER_WITH_CAST.sub(r":\1 ::", source))
    clause: ClauseElement = source
    compiled = clause.compile(dialect=_DIALECT)
    if not isinstance(compiled, SQLCompiler):
        raise TypeError(f"not an executable statement: {source!r}")
    if compiled.post_compile_params:
        raise ValueError(f"IN lists cannot be compiled once, use = any(:values): {compiled}")
    defaults: dict[str, Any] = {}
    names: set[str] = set()
    for bind, name in compiled.bind_names.items():
        if bind.required or (bind.value is None and bind.callable is None):
            names.add(name)
        else:
            defaults[name] = bind.effective_value
    # SQLAlchemy itself calls these per execution; it publishes no other way to reach them.
    processors: Mapping[str, Any] = compiled._bind_processors
    return Statement(str(compiled), frozenset(names), defaults, processors)
