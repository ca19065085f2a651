-- Who keeps a session waiting?
-- A row per session: pid (0: a prepared transaction), role, state, age of its transaction in
-- seconds, and the beginning of its last query.
-- try: pid=0
select
    b.pid,
    cast(a.usename as text) as role,
    a.state,
    cast(extract(epoch from pg_catalog.clock_timestamp() - a.xact_start) as double precision)
        as seconds,
    pg_catalog.left(a.query, 400) as query
from pg_catalog.unnest(pg_catalog.pg_blocking_pids(cast(:pid as integer))) as b (pid)
left join pg_catalog.pg_stat_activity as a on a.pid = b.pid
group by b.pid, a.usename, a.state, a.xact_start, a.query
order by a.xact_start, b.pid;
