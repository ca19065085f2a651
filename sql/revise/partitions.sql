-- Which tables are a partitioned table, at any depth?
-- A row per table, the one that was asked for among them: schema, name, kind.
-- try: schema='mlops' table='job_postings'
with recursive family as (
    select c.oid, n.nspname, c.relname, c.relkind
    from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = cast(:schema as text)
        and c.relname = cast(:table as text)
    union all
    select c.oid, n.nspname, c.relname, c.relkind
    from family as f
    join pg_catalog.pg_inherits as i on i.inhparent = f.oid
    join pg_catalog.pg_class as c on c.oid = i.inhrelid
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where f.relkind = 'p'
)
select
    cast(f.nspname as text) as schema,
    cast(f.relname as text) as name,
    cast(f.relkind as text) as kind
from family as f
order by f.oid;
