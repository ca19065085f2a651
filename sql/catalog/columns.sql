-- What are the columns of every table outside the system schemas?
-- A row per column: table oid, position, name, type as written, type under all domains, length
-- modifier, collation, NOT NULL (the column's or one of its domains'), default (the column's or its
-- domain's; a domain has a copy of the default that the domain below it once had), generated,
-- identity.
with recursive domains (oid, base, modifier, not_null) as (
    select t.oid, t.typbasetype, t.typtypmod, t.typnotnull
    from pg_catalog.pg_type as t
    where t.typtype = 'd'
    union all
    select d.oid, t.typbasetype, greatest(d.modifier, t.typtypmod),
        d.not_null or t.typnotnull
    from domains as d
    join pg_catalog.pg_type as t on t.oid = d.base and t.typtype = 'd'
),
resolved as (
    select d.*
    from domains as d
    join pg_catalog.pg_type as t on t.oid = d.base
    where t.typtype <> 'd'
)
select
    cast(a.attrelid as bigint) as table_oid,
    a.attnum as position,
    cast(a.attname as text) as name,
    pg_catalog.format_type(a.atttypid, a.atttypmod) as type,
    pg_catalog.format_type(coalesce(r.base, a.atttypid), null) as base_type,
    greatest(a.atttypmod, coalesce(r.modifier, -1)) as type_modifier,
    case when l.oid is not null then
        pg_catalog.quote_ident(cast(ln.nspname as text)) || '.'
            || pg_catalog.quote_ident(cast(l.collname as text))
    end as collation,
    coalesce(l.collisdeterministic, true) as deterministic,
    a.attnotnull or coalesce(r.not_null, false) as not_null,
    case when a.attgenerated = '' then
        coalesce(pg_catalog.pg_get_expr(f.adbin, f.adrelid), y.typdefault)
    end as default_text,
    a.attgenerated <> '' as generated,
    a.attidentity <> '' as identity
from pg_catalog.pg_attribute as a
join pg_catalog.pg_class as c on c.oid = a.attrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_type as y on y.oid = a.atttypid
left join resolved as r on r.oid = a.atttypid
left join pg_catalog.pg_collation as l on l.oid = a.attcollation
left join pg_catalog.pg_namespace as ln on ln.oid = l.collnamespace
left join pg_catalog.pg_attrdef as f on f.adrelid = a.attrelid and f.adnum = a.attnum
where a.attnum > 0
    and not a.attisdropped
    and c.relkind in ('r', 'p', 'f')
    and n.nspname <> 'information_schema'
    and pg_catalog.substr(cast(n.nspname as text), 1, 3) <> 'pg_'
order by a.attrelid, a.attnum;
