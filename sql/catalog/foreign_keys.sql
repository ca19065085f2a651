-- What foreign keys are there, outside the system schemas?
-- A row per pg_constraint entry, the copies for partitions (parent <> 0) included: oid, parent,
-- name, both tables, both column lists as positions, operators, actions, MATCH, columns that SET
-- NULL or SET DEFAULT writes (15 and later), deferrability, validated, enforced and PERIOD (18),
-- of a key that is not validated: when its entry was written (if the server keeps commit times), and
-- whether the owner of the table, who may validate it, would look each row up by itself; comment,
-- definition.
select
    cast(k.oid as bigint) as oid,
    cast(k.conparentid as bigint) as parent,
    cast(k.conname as text) as name,
    cast(k.conrelid as bigint) as referencing,
    cast(k.confrelid as bigint) as referenced,
    pg_catalog.array_to_string(k.conkey, ' ') as referencing_positions,
    pg_catalog.array_to_string(k.confkey, ' ') as referenced_positions,
    pg_catalog.array_to_string(k.conpfeqop, ' ') as operators,
    cast(k.confdeltype as text) as on_delete,
    cast(k.confupdtype as text) as on_update,
    cast(k.confmatchtype as text) as match,
    coalesce(pg_catalog.array_to_string(k.confdelsetcols, ' '), '') as set_positions,
    k.condeferrable as is_deferrable,
    k.condeferred as is_deferred,
    k.convalidated as validated,
    k.conenforced as enforced,
    k.conperiod as period,
    case when not k.convalidated
        and pg_catalog.current_setting('track_commit_timestamp') = 'on'
    then pg_catalog.pg_xact_commit_timestamp(k.xmin) end as written_at,
    case when not k.convalidated then (
        select not o.rolsuper and (
            -- What ri_triggers.c asks before it checks all rows by one query.
            not (
                pg_catalog.has_table_privilege(o.oid, p.oid, 'SELECT')
                or (
                    select pg_catalog.bool_and(
                        pg_catalog.has_column_privilege(o.oid, p.oid, u.attnum, 'SELECT')
                    )
                    from pg_catalog.unnest(k.confkey) as u (attnum)
                )
            )
            or (
                p.relrowsecurity
                and not o.rolbypassrls
                and not pg_catalog.pg_has_role(o.oid, p.relowner, 'USAGE')
            )
        )
        from pg_catalog.pg_class as f
        join pg_catalog.pg_roles as o on o.oid = f.relowner
        join pg_catalog.pg_class as p on p.oid = k.confrelid
        where f.oid = k.conrelid
    ) end as validated_by_row,
    d.description as comment,
    case when k.conparentid = 0 then pg_catalog.pg_get_constraintdef(k.oid) end as definition
from (
    select true as conenforced, false as conperiod, cast(null as smallint[]) as confdelsetcols
) as absent
cross join lateral (
    -- A column that this PostgreSQL's pg_constraint does not have means that of `absent`.
    select oid, conparentid, conname, connamespace, conrelid, confrelid, conkey, confkey, conpfeqop,
        confdeltype, confupdtype, confmatchtype, confdelsetcols, condeferrable, condeferred,
        convalidated, conenforced, conperiod, xmin
    from pg_catalog.pg_constraint
    where contype = 'f'
) as k
join pg_catalog.pg_namespace as n on n.oid = k.connamespace
left join pg_catalog.pg_description as d
    on d.objoid = k.oid
    and d.classoid = cast('pg_catalog.pg_constraint' as pg_catalog.regclass)
    and d.objsubid = 0
where n.nspname <> 'information_schema'
    and pg_catalog.substr(cast(n.nspname as text), 1, 3) <> 'pg_'
order by k.oid;
