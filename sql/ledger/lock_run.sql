-- Let nobody else work on this run until the transaction ends.
-- One row: the status.
-- try: run_id=1
select r.status from fkdoctor.run as r where r.id = :run_id for update;
