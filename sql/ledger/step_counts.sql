-- What has a run done to which table, and how many rows of it are in the journal?
-- A row per step, in the order of the steps: action, table, foreign key, rows.
-- try: run_id=1
select s.step, s.action, s.table_schema, s.table_name, s.constraint_name,
    (
        select pg_catalog.count(*)
        from fkdoctor.journal as j
        where j.run_id = s.run_id and j.step = s.step
    ) as rows
from fkdoctor.step as s
where s.run_id = :run_id
order by s.step;
