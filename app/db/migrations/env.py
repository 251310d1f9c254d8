"""Alembic's entry: runs on the connection that app.db.migrate hands over, locked and open."""

from __future__ import annotations

from alembic import context

from app.db.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    include_schemas=True,
    version_table_schema="ops",
)
with context.begin_transaction():
    context.run_migrations()
