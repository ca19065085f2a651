-- Which server and role is this?
-- One row: version number, database, role, whether it is a standby, session_replication_role.
select
    cast(pg_catalog.current_setting('server_version_num') as integer) as version,
    cast(pg_catalog.current_database() as text) as database,
    cast(current_user as text) as role,
    pg_catalog.pg_is_in_recovery() as standby,
    pg_catalog.current_setting('session_replication_role') as replication_role;
