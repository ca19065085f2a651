-- Which of these names are functions that may say something else each time?
-- A row per name: name.
-- try: names='{random,lower}'
select distinct cast(p.proname as text) as name
from pg_catalog.pg_proc as p
where p.proname = any (cast(:names as pg_catalog.text[]))
    and p.provolatile = 'v'
order by name;
