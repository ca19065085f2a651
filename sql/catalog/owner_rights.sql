-- What may the owner of a table not do with it?
-- A row per table whose owner is no superuser: table oid, the rights that the owner lacks (USAGE is
-- on the schema; a right on one column counts).
select
    cast(c.oid as bigint) as table_oid,
    pg_catalog.array_remove(array[
        case when not pg_catalog.has_schema_privilege(c.relowner, n.oid, 'USAGE')
            then 'USAGE' end,
        case when not pg_catalog.has_any_column_privilege(c.relowner, c.oid, 'SELECT')
            then 'SELECT' end,
        case when not pg_catalog.has_any_column_privilege(c.relowner, c.oid, 'UPDATE')
            then 'UPDATE' end,
        case when not pg_catalog.has_table_privilege(c.relowner, c.oid, 'DELETE')
            then 'DELETE' end
    ], null) as lacks
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_roles as r on r.oid = c.relowner
where c.relkind in ('r', 'p')
    and not r.rolsuper
    and n.nspname <> 'information_schema'
    and pg_catalog.substr(cast(n.nspname as text), 1, 3) <> 'pg_'
order by c.oid;
