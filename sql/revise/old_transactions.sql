-- Which transactions on some tables have been open for long?
-- A row per session: pid (0: a prepared transaction), role, state, age of its transaction in
-- seconds, and the beginning of its last query. Our own sessions are left out. What the role may
-- not see of others' sessions is not known to be old.
-- try: schemas='{mlops}' tables='{job_postings}' seconds=60 ours='{0}'
select
    coalesce(l.pid, 0) as pid,
    cast(coalesce(a.usename, p.owner) as text) as role,
    a.state,
    cast(
        extract(epoch from pg_catalog.clock_timestamp() - coalesce(a.xact_start, p.prepared))
        as double precision
    ) as seconds,
    pg_catalog.left(a.query, 400) as query
from rows from (
    pg_catalog.unnest(cast(:schemas as text[])),
    pg_catalog.unnest(cast(:tables as text[]))
) as t (schema, name)
join pg_catalog.pg_namespace as n on n.nspname = t.schema
join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relname = t.name
join pg_catalog.pg_locks as l
    on l.locktype = 'relation'
    and l.relation = c.oid
    and l.database = (
        select d.oid
        from pg_catalog.pg_database as d
        where d.datname = pg_catalog.current_database()
    )
left join pg_catalog.pg_stat_activity as a on a.pid = l.pid
-- A prepared transaction keeps the number of the session that is gone, until the server restarts;
-- of which transaction it is, its lock on its own id says.
left join pg_catalog.pg_locks as i
    on l.pid is null
    and i.pid is null
    and i.locktype = 'transactionid'
    and i.virtualtransaction = l.virtualtransaction
left join pg_catalog.pg_prepared_xacts as p on p.transaction = i.transactionid
where l.granted
    and coalesce(l.pid, 0) <> all (cast(:ours as integer[]))
    and coalesce(a.xact_start, p.prepared)
        < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => cast(:seconds as float8))
group by l.pid, a.usename, p.owner, a.state, a.xact_start, p.prepared, a.query
order by coalesce(a.xact_start, p.prepared), l.pid;
