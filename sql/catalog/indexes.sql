-- What indexes are there, outside the system schemas?
-- A row per index: table, oid, name, access method, number of key columns, column positions
-- (0: an expression), per-column options, unique, primary, checked at once, NULLS NOT DISTINCT
-- (15 and later), whether it is partial, predicate, valid, ready, live, owning constraint, comment.
select
    cast(i.indrelid as bigint) as table_oid,
    cast(i.indexrelid as bigint) as oid,
    cast(c.relname as text) as name,
    cast(m.amname as text) as method,
    i.indnkeyatts as key_count,
    cast(i.indkey as text) as positions,
    cast(i.indclass as text) as operator_classes,
    cast(i.indcollation as text) as collations,
    cast(i.indoption as text) as options,
    i.indisunique as is_unique,
    i.indisprimary as is_primary,
    i.indimmediate as immediate,
    i.indnullsnotdistinct as nulls_not_distinct,
    i.indpred is not null as is_partial,
    pg_catalog.pg_get_expr(i.indpred, i.indrelid) as predicate,
    i.indisvalid as valid,
    i.indisready as ready,
    i.indislive as live,
    cast(k.conname as text) as constraint_name,
    d.description as comment
from (select false as indnullsnotdistinct) as absent
cross join lateral (
    -- Where pg_index has no indnullsnotdistinct (before 15), the name means that of `absent`.
    select indexrelid, indrelid, indnkeyatts, indkey, indclass, indcollation, indoption,
        indisunique, indisprimary, indimmediate, indpred, indisvalid, indisready, indislive,
        indnullsnotdistinct
    from pg_catalog.pg_index
) as i
join pg_catalog.pg_class as c on c.oid = i.indexrelid
join pg_catalog.pg_am as m on m.oid = c.relam
join pg_catalog.pg_class as t on t.oid = i.indrelid
join pg_catalog.pg_namespace as n on n.oid = t.relnamespace
left join pg_catalog.pg_constraint as k
    on k.conindid = i.indexrelid and k.conrelid = i.indrelid and k.contype in ('p', 'u', 'x')
left join pg_catalog.pg_description as d
    on d.objoid = i.indexrelid
    and d.classoid = cast('pg_catalog.pg_class' as pg_catalog.regclass)
    and d.objsubid = 0
where t.relkind in ('r', 'p', 'f')
    and n.nspname <> 'information_schema'
    and pg_catalog.substr(cast(n.nspname as text), 1, 3) <> 'pg_'
order by i.indrelid, c.relname;
