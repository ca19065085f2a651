-- What was done in this database, newest first?
-- A row per run: id, kind, table, status, rows deleted and repointed, who and when.
select
    r.id, r.kind, r.table_schema, r.table_name, r.status, r.deleted, r.repointed,
    r.started_by, r.started_at, r.finished_at, r.undone_at
from fkdoctor.run as r
order by r.id desc;
