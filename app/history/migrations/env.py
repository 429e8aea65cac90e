"""Run the migrations on the connection the application hands over, inside its transaction."""

from __future__ import annotations

from alembic import context

import app.accounts.tables  # noqa: F401 - its tables are in the same database
from app.history.models import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
