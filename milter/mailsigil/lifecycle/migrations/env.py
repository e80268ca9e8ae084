"""What alembic runs for a step: on the connection that it was handed, within one transaction."""

from __future__ import annotations

from alembic import context

from mailsigil.lifecycle.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
context.run_migrations()
