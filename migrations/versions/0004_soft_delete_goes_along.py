"""What references a letter or a posting can be soft-deleted with it.

A CASCADE into a table that cannot be soft-deleted from stands in the way of `fkdoctor soft-delete`.
Letters and postings are named again for databases in which 0003 gave them a time and no deletion.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_soft_delete("cover_letter_samples", schema="mlops", unique_keys=())
    op.add_soft_delete("job_postings", schema="mlops", unique_keys=())
    op.add_soft_delete("job_recommendations", schema="mlops", unique_keys=())
    op.add_soft_delete("user_interactions", schema="mlops", unique_keys=())


def downgrade() -> None:
    op.drop_soft_delete("user_interactions", schema="mlops", unique_keys=())
    op.drop_soft_delete("job_recommendations", schema="mlops", unique_keys=())
