"""What all table declarations share: the metadata with its naming rule, and kinds of columns."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Integer,
    MetaData,
    Text,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def text_column(name: str, *, default: str | None = None) -> Column[str]:
    """A text column without NULL."""
    quoted = None if default is None else text(f"'{default}'")
    return Column(name, Text, nullable=False, server_default=quoted)


def time_column(name: str, *, now: bool = False, nullable: bool = False) -> Column[Any]:
    """A timestamp with time zone; `now` makes it default to the transaction's start."""
    default = text("now()") if now else None
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=default)


def integer_column(name: str, *, default: int | None = None, big: bool = False) -> Column[int]:
    """An integer column without NULL; `big` for 64 bits."""
    kind = BigInteger if big else Integer
    quoted = None if default is None else text(str(default))
    return Column(name, kind, nullable=False, server_default=quoted)


def one_of(column: str, *values: str) -> CheckConstraint:
    """The column holds one of `values`."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} in ({listed})", name=column)
