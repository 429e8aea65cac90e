"""Indexes of the three questions asked of every history.

The list of an owner's threads, newest first; whether an image is still used, when a thread is deleted;
whether anybody still has an image.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_threads_owner_updated", "threads", ["owner", "updated"])
    op.create_index("ix_views_image", "views", ["image"])
    op.create_index("ix_images_digest", "images", ["digest"])
