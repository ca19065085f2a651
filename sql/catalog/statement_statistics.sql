-- Where is the extension that remembers which statements ran?
-- A row, or none: the schema of the view pg_stat_statements.
select cast(n.nspname as text) as schema
from pg_catalog.pg_extension as e
join pg_catalog.pg_namespace as n on n.oid = e.extnamespace
where e.extname = 'pg_stat_statements';
