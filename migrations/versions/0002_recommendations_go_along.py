"""A recommendation goes along with the letter or the posting it points at.

Both keys of job_recommendations become ON DELETE CASCADE, and get the index without which each such
DELETE would read the whole table. Writers go on meanwhile; the keys are in force at every moment.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLE = "job_recommendations"
# The definition is for --sql, which cannot look into the database.
RESUME = {
    "table": TABLE,
    "constraint": "job_recommendations_resume_id_fkey",
    "on_delete": "CASCADE",
    "schema": "mlops",
    "definition": "FOREIGN KEY (resume_id) REFERENCES mlops.cover_letter_samples(id)",
}
JOB = {
    "table": TABLE,
    "constraint": "job_recommendations_job_id_fkey",
    "on_delete": "CASCADE",
    "schema": "mlops",
    "definition": "FOREIGN KEY (job_id) REFERENCES mlops.job_postings(id)",
}


def upgrade() -> None:
    op.add_reference_index(TABLE, ["resume_id"], schema="mlops")
    op.add_reference_index(TABLE, ["job_id"], schema="mlops")
    op.change_on_delete(**RESUME)
    op.change_on_delete(**JOB)


def downgrade() -> None:
    op.restore_on_delete(**JOB)
    op.restore_on_delete(**RESUME)
    op.drop_reference_index(TABLE, ["job_id"], schema="mlops")
    op.drop_reference_index(TABLE, ["resume_id"], schema="mlops")
