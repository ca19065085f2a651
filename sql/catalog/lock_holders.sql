-- Who keeps even readers out of a table?
-- A row per lock held: schema, table, process id (null: a prepared transaction), application,
-- state of the session, seconds since its transaction began.
select
    cast(n.nspname as text) as schema,
    cast(c.relname as text) as name,
    l.pid,
    a.application_name as application,
    a.state,
    cast(extract(epoch from pg_catalog.clock_timestamp() - a.xact_start) as integer) as seconds
from pg_catalog.pg_locks as l
join pg_catalog.pg_class as c on c.oid = l.relation
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
left join pg_catalog.pg_stat_activity as a on a.pid = l.pid
where l.locktype = 'relation'
    and l.mode = 'AccessExclusiveLock'
    and l.granted
    and l.database in (
        select d.oid
        from pg_catalog.pg_database as d
        where d.datname = pg_catalog.current_database()
    )
    and c.relkind in ('r', 'p', 'f', 'm')
order by n.nspname, c.relname, l.pid;
