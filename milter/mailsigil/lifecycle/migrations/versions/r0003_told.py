"""What a person wants the authority to be told, for as long as it has not heard it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("certificate", sa.Column("told", sa.String(32), nullable=False, server_default=""))
