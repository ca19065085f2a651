-- What do the operator classes of indexes stand for?
-- A row per class: oid, name, and its family as `method schema.family`.
select
    cast(o.oid as bigint) as oid,
    cast(o.opcname as text) as name,
    m.amname || ' ' || pg_catalog.quote_ident(cast(n.nspname as text)) || '.'
        || pg_catalog.quote_ident(cast(f.opfname as text)) as family
from pg_catalog.pg_opclass as o
join pg_catalog.pg_opfamily as f on f.oid = o.opcfamily
join pg_catalog.pg_namespace as n on n.oid = f.opfnamespace
join pg_catalog.pg_am as m on m.oid = o.opcmethod
order by o.oid;
