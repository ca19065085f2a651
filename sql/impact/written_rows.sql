-- How many rows did this transaction delete and update, table by table?
-- A row per table that it wrote to: schema, name, deleted, updated. What earlier transactions of the
-- session did is in it until PostgreSQL has told the others: compare with before.
select
    cast(s.schemaname as text) as schema,
    cast(s.relname as text) as name,
    s.n_tup_del as deleted,
    s.n_tup_upd as updated
from pg_catalog.pg_stat_xact_user_tables as s
where s.n_tup_del > 0 or s.n_tup_upd > 0
order by s.schemaname, s.relname;
