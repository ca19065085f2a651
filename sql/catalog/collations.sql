-- What are the collations called?
-- A row per collation: oid, schema-qualified name.
select
    cast(l.oid as bigint) as oid,
    pg_catalog.quote_ident(cast(n.nspname as text)) || '.'
        || pg_catalog.quote_ident(cast(l.collname as text)) as name
from pg_catalog.pg_collation as l
join pg_catalog.pg_namespace as n on n.oid = l.collnamespace
order by l.oid;
