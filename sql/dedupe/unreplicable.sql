-- Of which tables would PostgreSQL refuse an UPDATE or DELETE because a publication could not
-- replicate it?
-- A row per table, event and publication: schema, name, event, publication. Such a table has no
-- replica identity: no primary key where that is wanted, no index that was chosen, or NOTHING.
select
    cast(n.nspname as text) as schema,
    cast(c.relname as text) as name,
    e.event,
    cast(p.pubname as text) as publication
from pg_catalog.pg_publication as p
join pg_catalog.pg_publication_tables as t on t.pubname = p.pubname
join pg_catalog.pg_namespace as n on n.nspname = t.schemaname
join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relname = t.tablename
join (values ('UPDATE'), ('DELETE')) as e (event)
    on (e.event = 'UPDATE' and p.pubupdate) or (e.event = 'DELETE' and p.pubdelete)
where c.relreplident <> 'f'
    and not exists (
        select 1
        from pg_catalog.pg_index as i
        where i.indrelid = c.oid
            and ((c.relreplident = 'd' and i.indisprimary) or (c.relreplident = 'i' and i.indisreplident))
    )
order by n.nspname, c.relname, e.event, p.pubname;
