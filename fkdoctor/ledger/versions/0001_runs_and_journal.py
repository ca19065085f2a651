"""Runs, their steps, the journal and the redirects."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

_TIME = sa.DateTime(timezone=True)
_TEXTS = postgresql.ARRAY(sa.Text)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "run",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("plan_id", sa.Text, nullable=False, unique=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("table_schema", sa.Text, nullable=False),
        sa.Column("table_name", sa.Text, nullable=False),
        sa.Column("plan", postgresql.JSONB, nullable=False, comment="the plan's first line"),
        sa.Column(
            "status",
            sa.Text,
            sa.CheckConstraint("status in ('applying', 'applied', 'undoing', 'undone')"),
            nullable=False,
        ),
        sa.Column(
            "time_zone",
            sa.Text,
            nullable=False,
            server_default=sa.text("pg_catalog.current_setting('TimeZone')"),
            comment="in which the journal tells times",
        ),
        sa.Column("deleted", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("repointed", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("started_by", sa.Text, nullable=False, server_default=sa.text("session_user")),
        sa.Column("started_at", _TIME, nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("finished_at", _TIME),
        sa.Column("undone_at", _TIME),
        schema="fkdoctor",
        comment="What was applied: a row per plan",
    )
    op.create_table(
        "step",
        sa.Column("run_id", sa.BigInteger, sa.ForeignKey("fkdoctor.run.id"), primary_key=True),
        sa.Column("step", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column(
            "action",
            sa.Text,
            sa.CheckConstraint("action in ('repoint', 'delete')"),
            nullable=False,
        ),
        sa.Column("table_schema", sa.Text, nullable=False),
        sa.Column("table_name", sa.Text, nullable=False),
        sa.Column("constraint_name", sa.Text, comment="the foreign key that was repointed"),
        sa.Column("key_columns", _TEXTS, nullable=False, comment="what identifies a row"),
        sa.Column("columns", _TEXTS, nullable=False, comment="what the journal holds of a row"),
        schema="fkdoctor",
        comment="What a run does to each batch of clusters, in this order",
    )
    # No foreign key: checking it for every row would take a tenth of the time of a run.
    op.create_table(
        "journal",
        sa.Column("run_id", sa.BigInteger, primary_key=True),
        sa.Column("cluster", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("step", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("key", _TEXTS, primary_key=True, comment="values of step.key_columns, as text"),
        sa.Column("before", postgresql.JSONB, nullable=False, comment="column: value as text"),
        sa.Column("after", postgresql.JSONB, comment="likewise; null for a deleted row"),
        schema="fkdoctor",
        comment="Every row that was changed or deleted, as it was before",
    )
    op.create_table(
        "redirect",
        sa.Column("run_id", sa.BigInteger, sa.ForeignKey("fkdoctor.run.id"), primary_key=True),
        sa.Column("cluster", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("old_key", _TEXTS, primary_key=True, comment="primary key, as text"),
        sa.Column("new_key", _TEXTS, nullable=False),
        schema="fkdoctor",
        comment="From the key of each deleted duplicate to the key of its survivor",
    )


def downgrade() -> None:
    """Forget everything: nothing that was applied can be undone afterwards."""
    for table in ("redirect", "journal", "step", "run"):
        op.drop_table(table, schema="fkdoctor")
