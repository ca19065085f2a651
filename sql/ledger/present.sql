-- Is there a ledger in this database, and may the current role look into it?
-- One row: whether there is the schema, whether there is a ledger in it, whether that may be read.
select
    exists (
        select 1 from pg_catalog.pg_namespace as n where n.nspname = 'fkdoctor'
    ) as has_schema,
    exists (
        select 1
        from pg_catalog.pg_class as c
        join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = 'fkdoctor' and c.relname = 'ledger_version'
    ) as has_ledger,
    exists (
        select 1
        from pg_catalog.pg_class as c
        join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = 'fkdoctor'
            and c.relname = 'ledger_version'
            and pg_catalog.has_schema_privilege(n.oid, 'USAGE')
            and pg_catalog.has_table_privilege(c.oid, 'SELECT')
    ) as readable;
