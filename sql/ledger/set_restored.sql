-- Write down that this deletion was restored. No rows.
-- try: id='00000000-0000-4000-8000-000000000001'
update fkdoctor.deletion
set restored_by = session_user, restored_at = pg_catalog.clock_timestamp()
where id = cast(:id as uuid);
