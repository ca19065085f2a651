-- What was soft-deleted in this database, newest first?
-- A row per deletion: id, root table, selection, reason, who and when, rows taken, references set,
-- rows purged, restored by whom and when.
select
    cast(d.id as text) as id, d.table_schema, d.table_name, d.selection, d.reason,
    d.deleted_by, d.deleted_at,
    coalesce(s.taken, 0) as taken, coalesce(s.set, 0) as set, coalesce(s.purged, 0) as purged,
    d.restored_by, d.restored_at
from fkdoctor.deletion as d
left join (
    select
        t.deletion_id,
        pg_catalog.sum(t.rows) filter (where t.action = 'delete') as taken,
        pg_catalog.sum(t.rows) filter (where t.action = 'set') as set,
        pg_catalog.sum(t.purged) as purged
    from fkdoctor.deletion_step as t
    group by t.deletion_id
) as s on s.deletion_id = d.id
order by d.deleted_at desc, d.id;
