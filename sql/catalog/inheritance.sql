-- Which table or index is a partition of, or inherits from, which?
-- A row per pair: oid of the lower one, oid of the upper one, position among several parents.
select
    cast(i.inhrelid as bigint) as oid,
    cast(i.inhparent as bigint) as parent,
    i.inhseqno as position
from pg_catalog.pg_inherits as i
order by i.inhrelid, i.inhseqno;
