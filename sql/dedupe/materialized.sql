-- Which materialized views are computed from which tables?
-- A row per table and view that reads it, also by way of other views: schema, name, view (qualified).
with recursive reads (view, relation) as (
    select r.ev_class, d.refobjid
    from pg_catalog.pg_rewrite as r
    join pg_catalog.pg_depend as d
        on d.classid = cast('pg_catalog.pg_rewrite' as pg_catalog.regclass) and d.objid = r.oid
    where d.refclassid = cast('pg_catalog.pg_class' as pg_catalog.regclass)
        and d.refobjid <> r.ev_class
    union
    select reads.view, d.refobjid
    from reads
    join pg_catalog.pg_rewrite as r on r.ev_class = reads.relation
    join pg_catalog.pg_depend as d
        on d.classid = cast('pg_catalog.pg_rewrite' as pg_catalog.regclass) and d.objid = r.oid
    where d.refclassid = cast('pg_catalog.pg_class' as pg_catalog.regclass)
        and d.refobjid <> r.ev_class
)
select distinct
    cast(n.nspname as text) as schema,
    cast(c.relname as text) as name,
    pg_catalog.quote_ident(cast(m.nspname as text)) || '.'
    || pg_catalog.quote_ident(cast(v.relname as text)) as view
from reads
join pg_catalog.pg_class as v on v.oid = reads.view and v.relkind = 'm'
join pg_catalog.pg_namespace as m on m.oid = v.relnamespace
join pg_catalog.pg_class as c on c.oid = reads.relation and c.relkind in ('r', 'p')
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where pg_catalog.substr(cast(n.nspname as text), 1, 3) <> 'pg_'
order by schema, name, view;
