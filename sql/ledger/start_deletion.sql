-- Write down that rows are being soft-deleted, now. No rows.
-- try: id='00000000-0000-4000-8000-000000000009' table_schema='mlops' table_name='t'
-- try: selection='(id = 1)' reason='test'
insert into fkdoctor.deletion (id, table_schema, table_name, selection, reason)
values (cast(:id as uuid), :table_schema, :table_name, :selection, :reason);
