"""How much an answer depended on its image, measured after it was shown."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("answers", sa.Column("grounding", sa.JSON(none_as_null=True)))
