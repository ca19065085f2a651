-- How are generated columns computed?
-- A row per column of a table that may be merged or repointed: schema, table, column, expression.
select
    cast(n.nspname as text) as schema,
    cast(c.relname as text) as name,
    cast(a.attname as text) as column_name,
    pg_catalog.pg_get_expr(d.adbin, d.adrelid) as expression
from pg_catalog.pg_attribute as a
join pg_catalog.pg_class as c on c.oid = a.attrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attgenerated <> ''
    and not a.attisdropped
    and c.relkind in ('r', 'p')
    and n.nspname <> 'information_schema'
    and pg_catalog.substr(cast(n.nspname as text), 1, 3) <> 'pg_'
order by n.nspname, c.relname, a.attnum;
