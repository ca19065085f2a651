-- By which operators do constraints exclude rows?
-- A row per constraint that is checked by other operators than plain equality (EXCLUDE, and from 18
-- on WITHOUT OVERLAPS): schema, table, name, operators as `schema.operator` in the order of its keys.
select
    cast(n.nspname as text) as schema,
    cast(c.relname as text) as name,
    cast(k.conname as text) as constraint_name,
    (
        select pg_catalog.array_agg(
            pg_catalog.quote_ident(cast(m.nspname as text)) || '.' || cast(o.oprname as text)
            order by e.place
        )
        from pg_catalog.unnest(k.conexclop) with ordinality as e (operator, place)
        join pg_catalog.pg_operator as o on o.oid = e.operator
        join pg_catalog.pg_namespace as m on m.oid = o.oprnamespace
    ) as operators
from pg_catalog.pg_constraint as k
join pg_catalog.pg_class as c on c.oid = k.conrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where k.conexclop is not null
order by n.nspname, c.relname, k.conname;
