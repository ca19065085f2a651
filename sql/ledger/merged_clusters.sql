-- Which of these clusters has this run merged, and not been undone?
-- A row per cluster.
-- try: run_id=1 clusters='{1,2,3}'
select distinct r.cluster
from fkdoctor.redirect as r
where r.run_id = :run_id and r.cluster = any (cast(:clusters as integer[]))
order by r.cluster;
