"""Soft deletes: who took what, when and why, and what was changed on the way."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"

_TIME = sa.DateTime(timezone=True)
_TEXTS = postgresql.ARRAY(sa.Text)
_ID = postgresql.UUID(as_uuid=False)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "deletion",
        sa.Column("id", _ID, primary_key=True, comment="also in the rows that it took"),
        sa.Column("table_schema", sa.Text, nullable=False),
        sa.Column("table_name", sa.Text, nullable=False),
        sa.Column("selection", sa.Text, nullable=False, comment="which rows were asked for"),
        sa.Column("reason", sa.Text),
        sa.Column("deleted_by", sa.Text, nullable=False, server_default=sa.text("session_user")),
        sa.Column("deleted_at", _TIME, nullable=False, server_default=sa.func.clock_timestamp()),
        sa.Column("restored_by", sa.Text),
        sa.Column("restored_at", _TIME),
        schema="fkdoctor",
        comment="Soft deletes: a row for each, with the table that it began in",
    )
    op.create_table(
        "deletion_step",
        sa.Column("deletion_id", _ID, sa.ForeignKey("fkdoctor.deletion.id"), primary_key=True),
        sa.Column("step", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column(
            "action", sa.Text, sa.CheckConstraint("action in ('delete', 'set')"), nullable=False
        ),
        sa.Column("table_schema", sa.Text, nullable=False),
        sa.Column("table_name", sa.Text, nullable=False),
        sa.Column("constraint_name", sa.Text, comment="the foreign key whose columns were set"),
        sa.Column("key_columns", _TEXTS, nullable=False, comment="what identifies a row"),
        sa.Column(
            "columns",
            _TEXTS,
            nullable=False,
            comment="what says that a row is deleted, and by which deletion; or what was set",
        ),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("purged", sa.BigInteger, nullable=False, server_default="0"),
        schema="fkdoctor",
        comment="What a deletion did: the tables it took rows of, the keys it set, in this order",
    )
    # No foreign key, as with the journal of the runs: checking it would cost time for every row.
    op.create_table(
        "deletion_journal",
        sa.Column("deletion_id", _ID, primary_key=True),
        sa.Column("step", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("key", _TEXTS, primary_key=True, comment="values of key_columns, as text"),
        sa.Column("before", postgresql.JSONB, nullable=False, comment="column: value as text"),
        sa.Column("after", postgresql.JSONB, nullable=False, comment="likewise"),
        schema="fkdoctor",
        comment="Every row whose reference a deletion set to NULL or to its default",
    )


def downgrade() -> None:
    """Forget the deletions: nothing that they took can be restored by them afterwards."""
    for table in ("deletion_journal", "deletion_step", "deletion"):
        op.drop_table(table, schema="fkdoctor")
