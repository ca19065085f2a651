-- How far are the replicas behind?
-- One row: seconds until the slowest one has replayed what is written now; how many of them may not
-- be looked at.
select
    coalesce(
        pg_catalog.max(
            cast(extract(epoch from r.replay_lag) as double precision)
        ),
        0
    ) as seconds,
    pg_catalog.count(*) filter (where r.state is null) as hidden
from pg_catalog.pg_stat_replication as r;
