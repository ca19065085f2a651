-- Into which tables does logical replication write?
-- A row per table and subscription: table oid, name of the subscription.
select distinct
    cast(r.srrelid as bigint) as table_oid,
    -- Everybody may read the view, but not the oids of pg_subscription before 14.
    cast(s.subname as text) as name
from pg_catalog.pg_subscription_rel as r
join pg_catalog.pg_stat_subscription as s on s.subid = r.srsubid
order by table_oid, name;
