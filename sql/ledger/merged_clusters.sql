-- Which clusters has this run merged, of those in a range, and not been undone?
-- A row per cluster.
-- try: run_id=1 first=1 last=1000
select distinct r.cluster
from fkdoctor.redirect as r
where r.run_id = :run_id and r.cluster between :first and :last
order by r.cluster;
