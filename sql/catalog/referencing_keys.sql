-- Which foreign keys reference this table at this moment?
-- A row per key as it was written, not per copy for a partition: oid.
-- try: table_schema='mlops' table_name='cover_letter_samples'
select cast(k.oid as bigint) as oid
from pg_catalog.pg_constraint as k
join pg_catalog.pg_class as c on c.oid = k.confrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where k.contype = 'f'
    and k.conparentid = 0
    and n.nspname = :table_schema
    and c.relname = :table_name
order by k.oid;
