-- Add a batch's rows to the run's counts. No rows.
-- try: run_id=1 deleted=0 repointed=0
update fkdoctor.run
set deleted = deleted + :deleted, repointed = repointed + :repointed
where id = :run_id;
