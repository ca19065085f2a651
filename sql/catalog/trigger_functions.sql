-- What do the functions do that triggers can call?
-- A row per function: qualified name, language, source.
select
    pg_catalog.quote_ident(cast(n.nspname as text)) || '.'
        || pg_catalog.quote_ident(cast(p.proname as text)) as name,
    cast(l.lanname as text) as language,
    p.prosrc as source
from pg_catalog.pg_proc as p
join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
join pg_catalog.pg_language as l on l.oid = p.prolang
where p.prorettype = cast('pg_catalog.trigger' as pg_catalog.regtype)
    and n.nspname <> 'pg_catalog'
order by name;
