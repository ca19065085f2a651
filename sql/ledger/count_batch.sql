-- Add a batch's rows to the run's counts.
-- One row: the counts now.
-- try: run_id=1 deleted=0 repointed=0
with counted as (
    update fkdoctor.run
    set deleted = deleted + :deleted, repointed = repointed + :repointed
    where id = :run_id
    returning deleted, repointed
)
select c.deleted, c.repointed from counted as c;
