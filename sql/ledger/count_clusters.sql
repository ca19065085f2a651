-- How many clusters has this run merged, and not been undone?
-- One row: their number.
-- try: run_id=1
select pg_catalog.count(distinct r.cluster) as clusters
from fkdoctor.redirect as r
where r.run_id = :run_id;
