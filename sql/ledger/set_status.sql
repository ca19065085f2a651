-- Write down how far a run is, unless it is further already. No rows.
-- try: run_id=1 status='applied'
update fkdoctor.run
set status = :status,
    finished_at = case when :status = 'applied' then pg_catalog.clock_timestamp() else finished_at end,
    undone_at = case when :status = 'undone' then pg_catalog.clock_timestamp() else undone_at end
where id = :run_id
    and pg_catalog.array_position(array['applying', 'applied', 'undoing', 'undone'], status)
        < pg_catalog.array_position(array['applying', 'applied', 'undoing', 'undone'], :status);
