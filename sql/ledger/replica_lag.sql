-- How far are the replicas behind?
-- One row: seconds until the slowest one has replayed what is written now; how many of them may not
-- be looked at; the slots of those that are not connected, so that nobody knows.
select
    coalesce(
        pg_catalog.max(
            cast(extract(epoch from r.replay_lag) as double precision)
        ),
        0
    ) as seconds,
    pg_catalog.count(*) filter (where r.state is null) as hidden,
    (
        select pg_catalog.array_agg(cast(s.slot_name as text) order by s.slot_name)
        from pg_catalog.pg_replication_slots as s
        where
            s.slot_type operator(pg_catalog.=) 'physical'
            and not s.active
            and s.restart_lsn is not null
    ) as away
from pg_catalog.pg_stat_replication as r;
