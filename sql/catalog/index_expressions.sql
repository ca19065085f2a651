-- What are the expressions that some indexes have in place of a column?
-- A row per expression: index oid, position of the key, expression.
select
    cast(i.indexrelid as bigint) as oid,
    p.position,
    pg_catalog.pg_get_indexdef(i.indexrelid, p.position, false) as expression
from pg_catalog.pg_index as i
join pg_catalog.pg_class as t on t.oid = i.indrelid
join pg_catalog.pg_namespace as n on n.oid = t.relnamespace
cross join lateral pg_catalog.generate_series(1, cast(i.indnkeyatts as integer)) as p (position)
where i.indexprs is not null
    and i.indkey[p.position - 1] = 0
    and n.nspname <> 'information_schema'
    and pg_catalog.substr(cast(n.nspname as text), 1, 3) <> 'pg_'
order by i.indexrelid, p.position;
