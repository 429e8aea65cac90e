"""A view may show several images: each is noted apart, so that deleting one asks every view that shows it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "view_images",
        sa.Column("turn_id", sa.String(32), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(128), nullable=False),
        sa.PrimaryKeyConstraint("turn_id", "position", "place", name="pk_view_images"),
        sa.ForeignKeyConstraint(
            ["turn_id", "position"],
            ["views.turn_id", "views.position"],
            name="fk_view_images_turn_id_position_views",
            ondelete="CASCADE",
        ),
    )
    op.execute(
        "INSERT INTO view_images (turn_id, position, place, digest) "
        "SELECT turn_id, position, 0, image FROM views"
    )
    op.create_index("ix_view_images_digest", "view_images", ["digest"])
    op.drop_index("ix_views_image", "views")
    op.drop_column("views", "image")
