"""Alembic's scripts; run them with `app.db.migrate.upgrade`."""
