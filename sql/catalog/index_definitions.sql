-- How would each index outside the system schemas be created?
-- A row per index: oid, CREATE INDEX as the server prints it. Most of the time of reading a large
-- catalog, so it is asked only where indexes are changed.
select
    cast(i.indexrelid as bigint) as oid,
    pg_catalog.pg_get_indexdef(i.indexrelid) as definition
from pg_catalog.pg_index as i
join pg_catalog.pg_class as t on t.oid = i.indrelid
join pg_catalog.pg_namespace as n on n.oid = t.relnamespace
where t.relkind in ('r', 'p', 'f')
    and n.nspname <> 'information_schema'
    and pg_catalog.substr(cast(n.nspname as text), 1, 3) <> 'pg_'
order by oid;
