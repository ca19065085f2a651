-- Which sessions on this database start with session_replication_role = replica?
-- A row per setting of ALTER ROLE and ALTER DATABASE: role, database; null where it is for any.
select
    cast(r.rolname as text) as role,
    cast(d.datname as text) as database
from pg_catalog.pg_db_role_setting as s
left join pg_catalog.pg_roles as r on r.oid = s.setrole
left join pg_catalog.pg_database as d on d.oid = s.setdatabase
where 'session_replication_role=replica' = any (
        cast(pg_catalog.lower(cast(s.setconfig as text)) as text[])
    )
    and (s.setdatabase = 0 or d.datname = pg_catalog.current_database())
order by role nulls first, database nulls first;
