"""Rows that collide: journal entries that follow their row, redirects of more than one table."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


# Where each key of a merged row leads now. Each time the next run counts: a key that was merged may
# be given to a new row, and that be merged too.
_RESOLVED = """
    create view fkdoctor.resolved as
    with recursive led (table_schema, table_name, old_key, new_key, run_id) as (
        select s.table_schema, s.table_name, r.old_key, r.new_key, r.run_id
        from fkdoctor.redirect as r
        join fkdoctor.step as s on s.run_id = r.run_id and s.step = r.step
    ),
    way (table_schema, table_name, old_key, new_key, run_id) as (
        (
            select distinct on (l.table_schema, l.table_name, l.old_key)
                l.table_schema, l.table_name, l.old_key, l.new_key, l.run_id
            from led as l
            order by l.table_schema, l.table_name, l.old_key, l.run_id desc
        )
        union all
        select w.table_schema, w.table_name, w.old_key, n.new_key, n.run_id
        from way as w
        cross join lateral (
            select l.new_key, l.run_id
            from led as l
            where (l.table_schema, l.table_name, l.old_key)
                = (w.table_schema, w.table_name, w.new_key)
                and l.run_id > w.run_id
            order by l.run_id
            limit 1
        ) as n
    )
    select distinct on (w.table_schema, w.table_name, w.old_key)
        w.table_schema, w.table_name, w.old_key, w.new_key
    from way as w
    order by w.table_schema, w.table_name, w.old_key, w.run_id desc
"""


def upgrade() -> None:
    """Add the columns, and fill them for the runs that there are."""
    op.add_column(
        "journal",
        sa.Column(
            "moving",
            sa.Boolean,
            nullable=False,
            server_default=sa.false(),
            comment="whether the step changes what identifies the row, as key does then",
        ),
        schema="fkdoctor",
    )
    op.create_index(
        "journal_moving",
        "journal",
        ["run_id", "key"],
        schema="fkdoctor",
        postgresql_where=sa.text("moving"),
    )
    op.add_column(
        "redirect",
        sa.Column(
            "step",
            sa.SmallInteger,
            nullable=False,
            server_default="0",
            comment="the one that deleted the row, which tells the table",
        ),
        schema="fkdoctor",
    )
    op.execute(
        """
        update fkdoctor.redirect as r set step = s.step
        from fkdoctor.step as s
        where s.run_id = r.run_id and s.action = 'delete'
        """
    )
    op.alter_column("redirect", "step", server_default=None, schema="fkdoctor")
    op.drop_constraint("redirect_pkey", "redirect", schema="fkdoctor")
    op.create_primary_key(
        "redirect_pkey", "redirect", ["run_id", "cluster", "step", "old_key"], schema="fkdoctor"
    )
    op.drop_constraint("step_action_check", "step", schema="fkdoctor")
    op.create_check_constraint(
        "step_action_check", "step", "action in ('repoint', 'delete', 'update')", schema="fkdoctor"
    )
    op.create_index("redirect_old_key", "redirect", ["old_key"], schema="fkdoctor")
    op.execute(_RESOLVED)
    op.execute("comment on view fkdoctor.resolved is 'Where the key of each merged row leads now'")


def downgrade() -> None:
    """Forget what only later runs need: those can't be undone afterwards."""
    op.execute("drop view fkdoctor.resolved")
    op.drop_index("redirect_old_key", "redirect", schema="fkdoctor")
    op.drop_constraint("redirect_pkey", "redirect", schema="fkdoctor")
    op.execute(
        """
        delete from fkdoctor.redirect as r
        using fkdoctor.step as s, fkdoctor.run as n
        where s.run_id = r.run_id and s.step = r.step and n.id = r.run_id
            and (s.table_schema, s.table_name) <> (n.table_schema, n.table_name)
        """
    )
    op.execute("delete from fkdoctor.step where action = 'update'")
    op.drop_constraint("step_action_check", "step", schema="fkdoctor")
    op.create_check_constraint(
        "step_action_check", "step", "action in ('repoint', 'delete')", schema="fkdoctor"
    )
    op.drop_column("redirect", "step", schema="fkdoctor")
    op.create_primary_key(
        "redirect_pkey", "redirect", ["run_id", "cluster", "old_key"], schema="fkdoctor"
    )
    op.drop_index("journal_moving", "journal", schema="fkdoctor")
    op.drop_column("journal", "moving", schema="fkdoctor")
