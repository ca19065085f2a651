-- Which tables have these oids?
-- A row per oid that is a table: oid, schema, name.
-- try: oids='{1259}'
select
    cast(c.oid as bigint) as oid,
    cast(n.nspname as text) as schema,
    cast(c.relname as text) as name
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where c.oid = any (cast(:oids as pg_catalog.oid[]))
order by c.oid;
