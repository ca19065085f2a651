-- What did this deletion do?
-- A row per step, in order: action, table, foreign key, columns, how many rows, how many are purged.
-- try: id='00000000-0000-4000-8000-000000000001'
select s.step, s.action, s.table_schema, s.table_name, s.constraint_name, s.key_columns,
    s.columns, s.rows, s.purged
from fkdoctor.deletion_step as s
where s.deletion_id = cast(:id as uuid)
order by s.step;
