-- Write down how many rows of a table were purged that this deletion had taken. No rows.
-- try: id='00000000-0000-4000-8000-000000000001' table_schema='mlops' table_name='t' purged=1
update fkdoctor.deletion_step
set purged = purged + :purged
where deletion_id = cast(:id as uuid)
    and action = 'delete'
    and table_schema = :table_schema
    and table_name = :table_name;
