-- Which clusters has this run merged, and not been undone?
-- One row: lowest and highest number, null when there is none; how many.
-- try: run_id=1
select
    pg_catalog.min(r.cluster) as first,
    pg_catalog.max(r.cluster) as last,
    pg_catalog.count(distinct r.cluster) as clusters
from fkdoctor.redirect as r
where r.run_id = :run_id;
