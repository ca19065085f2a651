-- Which tables and views are there, outside the system schemas?
-- A row per relation: oid, schema, name, kind (r table, p partitioned, f foreign, v view,
-- m materialised view), owner, row and size estimates, partitioning (key, bound), row security,
-- replica identity, and whether the current role may read the rows.
select
    cast(c.oid as bigint) as oid,
    cast(n.nspname as text) as schema,
    cast(c.relname as text) as name,
    cast(c.relkind as text) as kind,
    cast(pg_catalog.pg_get_userbyid(c.relowner) as text) as owner,
    -- Never analysed is -1 from 14 on, before that 0 rows in 0 pages, as for an empty table.
    case when c.reltuples >= 0 and (
        c.reltuples > 0
        or c.relpages > 0
        or cast(pg_catalog.current_setting('server_version_num') as integer) >= 140000
    ) then cast(c.reltuples as bigint) end as row_estimate,
    cast(c.relpages as bigint)
        * cast(pg_catalog.current_setting('block_size') as bigint) as size_bytes,
    cast(c.relpersistence as text) as persistence,
    c.relispartition as is_partition,
    case when c.relkind = 'p' then pg_catalog.pg_get_partkeydef(c.oid) end as partition_key,
    pg_catalog.pg_get_expr(c.relpartbound, c.oid) as partition_bound,
    c.relrowsecurity as row_security,
    c.relforcerowsecurity as force_row_security,
    cast(c.relreplident as text) as replica_identity,
    pg_catalog.has_schema_privilege(n.oid, 'USAGE')
        and pg_catalog.has_table_privilege(c.oid, 'SELECT') as readable,
    d.description as comment
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
left join pg_catalog.pg_description as d
    on d.objoid = c.oid
    and d.classoid = cast('pg_catalog.pg_class' as pg_catalog.regclass)
    and d.objsubid = 0
where c.relkind in ('r', 'p', 'f', 'v', 'm')
    and n.nspname <> 'information_schema'
    and pg_catalog.substr(cast(n.nspname as text), 1, 3) <> 'pg_'
order by n.nspname, c.relname;
