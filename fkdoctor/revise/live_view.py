"""A view of a table's live rows: all its columns but the two of the soft delete."""

from __future__ import annotations

from fkdoctor.identifier import quote
from fkdoctor.revise.ddl import block, comment_as_created, is_marked, last_line, literal, refuse
from fkdoctor.revise.mark import CREATED
from fkdoctor.schema import TableName


def compose_view(table: TableName, view: str, columns: tuple[str, ...]) -> str:
    """The statement that creates and marks the view, or refuses where its name is taken.

    From 15 on whoever reads it does so with their own rights (security_invoker). `columns` are left
    out. What is inserted through it is live.
    """
    name = TableName(table.schema, view)
    left_out = ", ".join(literal(column) for column in columns)
    taken = refuse(
        f"pg_catalog.to_regclass({literal(str(name))}) is not null",
        what=literal(f"The name {name} is taken."),
        why=literal(f"The view of the live rows of {table} was to have it."),
        next=literal('Give the view another name: view="…".'),
        indent=8,
    )
    return block(
        f"""
    if not coalesce({is_marked(literal(str(name)))}, false) then
        {taken}
        select pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' order by a.attnum)
        into names
        from pg_catalog.pg_attribute as a
        where a.attrelid = cast({literal(str(table))} as pg_catalog.regclass)
            and a.attnum > 0 and not a.attisdropped
            and a.attname <> all (array[{left_out}]);
        if cast(pg_catalog.current_setting('server_version_num') as integer) >= 150000 then
            rights := 'with (security_invoker = true) ';
        end if;
        execute {literal(f"create view {name} ")} || rights || 'as select ' || names
            || {literal(f" from {table} where {quote(columns[0])} is null")};
        {comment_as_created("view", str(name))};
    end if;""",  # noqa: S608  names are quoted, texts are literals
        declare=("names text", "rights text := ''"),
    )


def compose_removal(table: TableName) -> str:
    """PL/pgSQL that drops the views that were created here over the table.

    It needs a variable `glance record`.
    """
    comment = "pg_catalog.obj_description(v.oid, 'pg_class')"
    return f"""\
    for glance in
        select distinct n.nspname, v.relname
        from pg_catalog.pg_depend as d
        join pg_catalog.pg_rewrite as r
            on r.oid = d.objid and d.classid = cast('pg_catalog.pg_rewrite' as pg_catalog.regclass)
        join pg_catalog.pg_class as v on v.oid = r.ev_class and v.relkind = 'v'
        join pg_catalog.pg_namespace as n on n.oid = v.relnamespace
        where d.refobjid = pg_catalog.to_regclass({literal(str(table))})
            and d.refclassid = cast('pg_catalog.pg_class' as pg_catalog.regclass)
            and {last_line(comment)} = {literal(CREATED)}
        order by 1, 2
    loop
        execute pg_catalog.format('drop view %I.%I', glance.nspname, glance.relname);
    end loop;"""  # noqa: S608  texts are literals
