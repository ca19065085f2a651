-- Write down what a deletion did to a table. No rows.
-- try: id='00000000-0000-4000-8000-000000000001' step=9 action='set' table_schema='mlops' table_name='t' constraint_name='k'
-- try: key_columns='{id}' columns='{resume_id}' rows=1
insert into fkdoctor.deletion_step (
    deletion_id, step, action, table_schema, table_name, constraint_name, key_columns, columns,
    rows
)
values (
    cast(:id as uuid), :step, :action, :table_schema, :table_name, :constraint_name,
    cast(:key_columns as text[]), cast(:columns as text[]), :rows
);
