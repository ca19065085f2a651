-- How much WAL has the server written since it was made?
-- One row: bytes.
select cast(
    pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), '0/0') as bigint
) as bytes;
