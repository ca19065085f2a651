-- Which operators compare the columns of foreign keys, and which indexes can look them up?
-- A row per operator: oid, qualified name, the types it compares, operator families (`method
-- schema.family`) that hold its commutator as a search operator: an index on the referencing column
-- in one of them serves.
select
    cast(o.oid as bigint) as oid,
    pg_catalog.quote_ident(cast(s.nspname as text)) || '.' || cast(o.oprname as text) as name,
    pg_catalog.format_type(o.oprleft, null) as left_type,
    pg_catalog.format_type(o.oprright, null) as right_type,
    array(
        select m.amname || ' ' || pg_catalog.quote_ident(cast(n.nspname as text)) || '.'
            || pg_catalog.quote_ident(cast(f.opfname as text))
        from pg_catalog.pg_amop as a
        join pg_catalog.pg_opfamily as f on f.oid = a.amopfamily
        join pg_catalog.pg_namespace as n on n.oid = f.opfnamespace
        join pg_catalog.pg_am as m on m.oid = a.amopmethod
        where a.amopopr = o.oprcom and a.amoppurpose = 's'
        order by 1
    ) as families
from (
    select distinct pg_catalog.unnest(k.conpfeqop) as oid
    from pg_catalog.pg_constraint as k
    where k.contype = 'f'
) as used
join pg_catalog.pg_operator as o on o.oid = used.oid
join pg_catalog.pg_namespace as s on s.oid = o.oprnamespace
order by o.oid;
