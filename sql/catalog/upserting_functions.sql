-- Which functions may insert ON CONFLICT?
-- A row per function: signature, its text, and the search_path that it sets, null where it sets none.
-- Bodies that are kept parsed (BEGIN ATOMIC) are printed with every name qualified.
select
    f.name,
    f.source,
    f.search_path
from (
    select
        pg_catalog.quote_ident(cast(n.nspname as text)) || '.'
            || pg_catalog.quote_ident(cast(p.proname as text)) || '('
            || pg_catalog.oidvectortypes(p.proargtypes) || ')' as name,
        case
            when p.prosrc <> '' then p.prosrc
            else pg_catalog.pg_get_functiondef(p.oid)
        end as source,
        (
            select pg_catalog.substr(c.setting, 13)
            from pg_catalog.unnest(p.proconfig) as c (setting)
            where c.setting like 'search_path=%'
        ) as search_path
    from pg_catalog.pg_proc as p
    join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
    join pg_catalog.pg_language as l on l.oid = p.prolang
    where l.lanname in ('sql', 'plpgsql')
        and p.prokind in ('f', 'p')
        and n.nspname <> 'pg_catalog'
        and n.nspname <> 'information_schema'
        and (p.prosrc ~* '\mon\s+conflict\M' or p.prosrc = '')
) as f
where f.source ~* '\mon\s+conflict\M'
order by f.name;
