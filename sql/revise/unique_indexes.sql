-- Which unique indexes does a table have, and what hangs on each that a CREATE INDEX does not say?
-- A row per index: name, whether it is valid, whether the table is clustered by it or has it for its
-- replica identity, its tablespace where that is not the default, its storage parameters, the comments
-- on its constraint and on itself, the functions and views that name its constraint.
-- try: schema='Shop' table='customers'
select
    cast(c.relname as text) as name,
    i.indisvalid as valid,
    i.indisclustered as clustered,
    i.indisreplident as replica_identity,
    cast(s.spcname as text) as tablespace,
    pg_catalog.array_to_string(c.reloptions, ', ') as options,
    pg_catalog.obj_description(k.oid, 'pg_constraint') as constraint_comment,
    pg_catalog.obj_description(c.oid, 'pg_class') as index_comment,
    (
        select pg_catalog.string_agg(u.name, ', ' order by u.name)
        from (
            -- ON CONFLICT ON CONSTRAINT, in the text of a function
            select pg_catalog.format('%I.%I()', pn.nspname, p.proname) as name
            from pg_catalog.pg_proc as p
            join pg_catalog.pg_namespace as pn on pn.oid = p.pronamespace
            where p.prosrc operator(pg_catalog.~*) 'on\s+conflict\s+on\s+constraint\s'
                and pg_catalog.strpos(pg_catalog.lower(p.prosrc), pg_catalog.lower(k.conname)) > 0
            union
            -- and in what PostgreSQL has parsed already
            select pg_catalog.pg_describe_object(d.classid, d.objid, 0)
            from pg_catalog.pg_depend as d
            where d.refclassid = cast('pg_catalog.pg_constraint' as pg_catalog.regclass)
                and d.refobjid = k.oid
                and d.deptype = 'n'
                and d.classid in (
                    cast('pg_catalog.pg_proc' as pg_catalog.regclass),
                    cast('pg_catalog.pg_rewrite' as pg_catalog.regclass)
                )
        ) as u
    ) as used_by
from pg_catalog.pg_index as i
join pg_catalog.pg_class as c on c.oid = i.indexrelid
join pg_catalog.pg_class as t on t.oid = i.indrelid
join pg_catalog.pg_namespace as n on n.oid = t.relnamespace
left join pg_catalog.pg_tablespace as s on s.oid = c.reltablespace
left join pg_catalog.pg_constraint as k
    on k.conindid = i.indexrelid and k.conrelid = i.indrelid and k.contype in ('p', 'u')
where n.nspname = :schema and t.relname = :table and i.indisunique
order by c.relname;
