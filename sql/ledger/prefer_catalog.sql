-- Let names without a schema mean PostgreSQL's own until the transaction ends, also for a role whose
-- search_path has pg_catalog behind another schema: left out of the path, it is searched first.
-- One row: the search_path now.
select pg_catalog.set_config(
    'search_path',
    coalesce(
        (
            select pg_catalog.string_agg(
                pg_catalog.quote_ident(cast(s.name as pg_catalog.text)), ', ' order by s.place
            )
            from pg_catalog.unnest(pg_catalog.current_schemas(false))
                with ordinality as s (name, place)
            where s.name operator(pg_catalog.<>) 'pg_catalog'
        ),
        ''
    ),
    true
) as search_path;
