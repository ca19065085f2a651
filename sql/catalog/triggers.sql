-- Which triggers did somebody write?
-- A row per trigger, in firing order within a table: table oid, name, function, type bits (1 row,
-- 2 before, 4 insert, 8 delete, 16 update, 32 truncate, 64 instead of), positions of the columns of
-- UPDATE OF, whether it has a WHEN, state.
select
    cast(t.tgrelid as bigint) as table_oid,
    cast(t.tgname as text) as name,
    pg_catalog.quote_ident(cast(n.nspname as text)) || '.'
        || pg_catalog.quote_ident(cast(p.proname as text)) as function,
    t.tgtype as bits,
    cast(t.tgattr as text) as positions,
    t.tgqual is not null as conditional,
    cast(t.tgenabled as text) as state
from pg_catalog.pg_trigger as t
join pg_catalog.pg_proc as p on p.oid = t.tgfoid
join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
left join pg_catalog.pg_constraint as k on k.oid = t.tgconstraint
-- Before 15 the copies that a trigger has on partitions are marked as internal, like the triggers
-- of keys.
where not t.tgisinternal or k.oid is null or k.contype = 't'
order by t.tgrelid, t.tgname;
