-- What is this run?
-- One row, or none: id, table, plan, status, rows deleted and repointed, who and when.
-- try: run_id=1
select r.id, r.plan_id, r.table_schema, r.table_name, r.plan, r.status, r.deleted, r.repointed,
    r.started_by, r.started_at, r.finished_at, r.undone_at
from fkdoctor.run as r
where r.id = :run_id;
