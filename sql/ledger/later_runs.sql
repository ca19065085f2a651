-- Which later runs, not undone, changed a table that this run changed too?
-- A row per run, the latest first: id.
-- try: run_id=1
select distinct r.id
from fkdoctor.run as r
join fkdoctor.step as later on later.run_id = r.id
join fkdoctor.step as earlier
    on earlier.table_schema = later.table_schema and earlier.table_name = later.table_name
where earlier.run_id = :run_id and r.id > :run_id and r.status <> 'undone'
order by r.id desc;
