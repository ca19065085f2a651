-- Which of PostgreSQL's own triggers make the foreign keys work, in which order do they fire?
-- A row per trigger, in firing order (by the bytes of its name) within a table: constraint oid,
-- table oid, name, function, state (O on, D disabled, R replica only, A always).
select
    cast(t.tgconstraint as bigint) as constraint_oid,
    cast(t.tgrelid as bigint) as table_oid,
    cast(t.tgname as text) as name,
    cast(p.proname as text) as function,
    cast(t.tgenabled as text) as state
from pg_catalog.pg_trigger as t
join pg_catalog.pg_constraint as k on k.oid = t.tgconstraint and k.contype = 'f'
join pg_catalog.pg_proc as p on p.oid = t.tgfoid
where t.tgisinternal
order by t.tgrelid, t.tgname;
