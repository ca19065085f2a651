-- Remember what a run does to each batch, once. No rows.
-- try: run_id=1 step=1 action='repoint' table_schema='mlops' table_name='t' constraint_name='k'
-- try: key_columns='{id}' columns='{resume_id}'
insert into fkdoctor.step (
    run_id, step, action, table_schema, table_name, constraint_name, key_columns, columns
)
values (
    :run_id, :step, :action, :table_schema, :table_name, :constraint_name,
    cast(:key_columns as text[]), cast(:columns as text[])
)
on conflict (run_id, step) do nothing;
