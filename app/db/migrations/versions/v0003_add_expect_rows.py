"""Add ops.expect_rows: a guarded write that misses a row ends its transaction by itself."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_EXPECT_ROWS = """
create function ops.expect_rows(touched bigint, expected bigint) returns void
language plpgsql as $$
begin
  if touched <> expected then
    raise exception 'a guarded write touched % rows of %', touched, expected
      using errcode = 'SY001';
  end if;
end $$
"""


def upgrade() -> None:
    """Apply this revision."""
    op.execute(_EXPECT_ROWS)
