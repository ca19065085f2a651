-- Take back the redirects of these clusters of a run. No rows.
-- try: run_id=1 clusters='{1}'
delete from fkdoctor.redirect
where run_id = :run_id and cluster = any (cast(:clusters as integer[]));
