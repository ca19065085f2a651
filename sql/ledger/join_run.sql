-- Let nobody undo this run until the transaction ends; others may go on with it at the same time.
-- One row: the status, the time zone in which the journal is written, what was done so far.
-- try: run_id=1
select r.status, r.time_zone, r.deleted, r.repointed
from fkdoctor.run as r
where r.id = :run_id
for key share;
