-- Which deletions have an id that begins so?
-- A row per deletion, at most ten: id.
-- try: start='0000'
select cast(d.id as text) as id
from fkdoctor.deletion as d
where pg_catalog.starts_with(cast(d.id as text), :start)
order by d.id
limit 10;
