-- What CHECK and EXCLUDE constraints are there, outside the system schemas?
-- A row per constraint: table, name, kind (c check, x exclude), column positions, validated,
-- enforced (false only from 18 on), definition.
select
    cast(k.conrelid as bigint) as table_oid,
    cast(k.conname as text) as name,
    cast(k.contype as text) as kind,
    pg_catalog.array_to_string(k.conkey, ' ') as positions,
    k.convalidated as validated,
    k.conenforced as enforced,
    pg_catalog.pg_get_constraintdef(k.oid) as definition
from (select true as conenforced) as absent
cross join lateral (
    -- Where pg_constraint has no conenforced (before 18), the name means that of `absent`.
    select oid, conrelid, conname, contype, conkey, connamespace, convalidated, conenforced
    from pg_catalog.pg_constraint
    where contype in ('c', 'x') and conrelid <> 0
) as k
join pg_catalog.pg_namespace as n on n.oid = k.connamespace
where n.nspname <> 'information_schema'
    and pg_catalog.substr(cast(n.nspname as text), 1, 3) <> 'pg_'
order by k.conrelid, k.conname;
