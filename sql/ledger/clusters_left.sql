-- Which clusters has this run merged, and not been undone? The last ones first.
-- A row per cluster, at most :limit, all numbered below :below.
-- try: run_id=1 below=1000 limit=10
select distinct r.cluster
from fkdoctor.redirect as r
where r.run_id = :run_id and r.cluster < :below
order by r.cluster desc
limit :limit;
