-- What are a foreign key of a table and its shadow at this moment, under the lock?
-- A row per constraint: oid, name, whether it is validated, comment, definition.
-- try: schema='mlops' table='job_recommendations' name='job_recommendations_job_id_fkey' shadow='k'
select
    cast(k.oid as bigint) as oid,
    cast(k.conname as text) as name,
    k.convalidated as validated,
    d.description as comment,
    pg_catalog.pg_get_constraintdef(k.oid) as definition
from pg_catalog.pg_constraint as k
join pg_catalog.pg_class as c on c.oid = k.conrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
left join pg_catalog.pg_description as d
    on d.objoid = k.oid
    and d.classoid = cast('pg_catalog.pg_constraint' as pg_catalog.regclass)
    and d.objsubid = 0
where n.nspname = cast(:schema as text)
    and c.relname = cast(:table as text)
    and k.conname in (cast(:name as text), cast(:shadow as text))
order by k.conname;
