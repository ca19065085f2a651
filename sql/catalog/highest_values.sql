-- How far have the numbers got that foreign keys reference?
-- A row per referenced column of a whole type on which there are statistics that the role may read:
-- table oid, position, the highest value that the last ANALYZE saw.
-- IS TRUE keeps the list of used columns a hashed set: joined, it was computed once a row.
-- Materialized: only when all is joined is it known that a text holds the numbers of such a column.
with numbers as materialized (
    select
        c.oid,
        a.attnum,
        cast(s.histogram_bounds as text) as bounds,
        cast(s.most_common_vals as text) as common
    from pg_catalog.pg_stats as s
    join pg_catalog.pg_namespace as n on n.nspname = s.schemaname
    join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relname = s.tablename
    join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attname = s.attname
    where not s.inherited
        and a.atttypid in (
            cast('pg_catalog.int2' as pg_catalog.regtype),
            cast('pg_catalog.int4' as pg_catalog.regtype),
            cast('pg_catalog.int8' as pg_catalog.regtype)
        )
        and ((c.oid, a.attnum) in (
            select k.confrelid, pg_catalog.unnest(k.confkey)
            from pg_catalog.pg_constraint as k
            where k.contype = 'f'
        )) is true
)
select
    cast(numbers.oid as bigint) as table_oid,
    numbers.attnum as position,
    highest.value as highest
from numbers
cross join lateral (
    select max(bound) as value
    from (
        select pg_catalog.unnest(cast(numbers.bounds as bigint[])) as bound
        union all
        select pg_catalog.unnest(cast(numbers.common as bigint[]))
    ) as bounds
) as highest
where highest.value is not null
order by table_oid, position;
