"""Letters and postings can be soft-deleted: deleted_at, empty for a live row."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_soft_delete("cover_letter_samples", schema="mlops", unique_keys=())
    op.add_soft_delete("job_postings", schema="mlops", unique_keys=())


def downgrade() -> None:
    op.drop_soft_delete("job_postings", schema="mlops", unique_keys=())
    op.drop_soft_delete("cover_letter_samples", schema="mlops", unique_keys=())
