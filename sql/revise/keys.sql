-- What are a foreign key of a table and its shadows at this moment, on the table and its partitions?
-- A row per constraint, copies for partitions included, and one without a constraint for each of
-- the tables that has none: referencing table, oid, name, parent (0: written, not a copy),
-- referenced table, whether it is validated, comment, definition of what was written.
-- try: schema='mlops' table='job_recommendations' name='job_recommendations_job_id_fkey' shadow='k'
with recursive family as (
    select c.oid, n.nspname, c.relname, c.relkind, true as is_root
    from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = cast(:schema as text)
        and c.relname = cast(:table as text)
    union all
    select c.oid, n.nspname, c.relname, c.relkind, false
    from family as f
    join pg_catalog.pg_inherits as i on i.inhparent = f.oid
    join pg_catalog.pg_class as c on c.oid = i.inhrelid
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where f.relkind = 'p'
),
written as (
    select k.oid
    from family as f
    join pg_catalog.pg_constraint as k on k.conrelid = f.oid
    where k.contype = 'f'
        and (f.is_root and k.conname = cast(:name as text) or k.conname = cast(:shadow as text))
        and k.conparentid = 0
),
tree as (
    select w.oid from written as w
    union
    select k.oid
    from tree as t
    join pg_catalog.pg_constraint as k on k.conparentid = t.oid
    where k.contype = 'f'
)
select
    cast(f.nspname as text) as schema,
    cast(f.relname as text) as table,
    cast(k.oid as bigint) as oid,
    cast(k.conname as text) as name,
    cast(k.conparentid as bigint) as parent,
    cast(m.nspname as text) as referenced_schema,
    cast(r.relname as text) as referenced_table,
    k.convalidated as validated,
    d.description as comment,
    case when k.conparentid = 0 then pg_catalog.pg_get_constraintdef(k.oid) end as definition
from family as f
left join pg_catalog.pg_constraint as k
    on k.conrelid = f.oid and k.oid in (select t.oid from tree as t)
left join pg_catalog.pg_class as r on r.oid = k.confrelid
left join pg_catalog.pg_namespace as m on m.oid = r.relnamespace
left join pg_catalog.pg_description as d
    on d.objoid = k.oid
    and d.classoid = cast('pg_catalog.pg_constraint' as pg_catalog.regclass)
    and d.objsubid = 0
order by f.oid, k.oid;
