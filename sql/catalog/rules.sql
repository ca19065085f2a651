-- Which rewrite rules are there on tables?
-- A row per rule: table oid, name, event (2 update, 3 insert, 4 delete), instead, whether it has a
-- WHERE, whether one of its commands is of the event's kind, state.
select
    cast(r.ev_class as bigint) as table_oid,
    cast(r.rulename as text) as name,
    cast(r.ev_type as text) as event,
    r.is_instead as instead,
    cast(r.ev_qual as text) <> '<>' as conditional,
    pg_catalog.strpos(
        cast(r.ev_action as text), 'commandType ' || cast(r.ev_type as text) || ' '
    ) > 0 as same_command,
    cast(r.ev_enabled as text) as state
from pg_catalog.pg_rewrite as r
join pg_catalog.pg_class as c on c.oid = r.ev_class
where c.relkind in ('r', 'p', 'f')
    and r.ev_type <> '1'
order by r.ev_class, r.rulename;
