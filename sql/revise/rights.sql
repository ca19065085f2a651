-- What may the current role do with a table?
-- One row: role, whether the session can write at all, owner, whether the role may alter the
-- table, lock it, and reference it.
-- try: schema='mlops' table='job_postings'
select
    cast(current_user as text) as role,
    pg_catalog.pg_is_in_recovery() as standby,
    pg_catalog.current_setting('transaction_read_only') = 'on' as read_only,
    cast(pg_catalog.pg_get_userbyid(c.relowner) as text) as owner,
    pg_catalog.pg_has_role(c.relowner, 'USAGE') as may_alter,
    pg_catalog.has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE') as may_lock,
    pg_catalog.has_any_column_privilege(c.oid, 'REFERENCES') as may_reference
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where n.nspname = cast(:schema as text)
    and c.relname = cast(:table as text)
order by c.oid;
