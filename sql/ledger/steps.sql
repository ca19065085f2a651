-- What does this run do to each batch of clusters?
-- A row per step, in order.
-- try: run_id=1
select s.step, s.action, s.table_schema, s.table_name, s.constraint_name, s.key_columns,
    s.columns
from fkdoctor.step as s
where s.run_id = :run_id
order by s.step;
