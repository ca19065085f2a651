-- Is nobody else at work on the batch of this run that begins with this cluster? Then nobody will be
-- until the transaction ends.
-- One row: whether it is ours.
-- try: run_id=1 first=1
select pg_catalog.pg_try_advisory_xact_lock(
    pg_catalog.hashtextextended('fkdoctor batch ' || :run_id || ' ' || :first, 0)
) as claimed;
