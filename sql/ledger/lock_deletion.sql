-- Let nobody else restore or purge this deletion until the transaction ends.
-- One row, or none: root table, selection, reason, who and when, restored or not.
-- try: id='00000000-0000-4000-8000-000000000001'
select d.table_schema, d.table_name, d.selection, d.reason, d.deleted_by, d.deleted_at,
    d.restored_by, d.restored_at
from fkdoctor.deletion as d
where d.id = cast(:id as uuid)
for update;
