-- What do the mlops tables hold?
-- A row per table: name, number of rows, a checksum of the columns they had from the beginning.
select
    'cover_letter_samples' as name,
    pg_catalog.count(*) as rows,
    pg_catalog.sum(pg_catalog.hashtextextended(cast(row(
        t.id, t.url, t.source, t.language, t.title, t.content, t.company, t."position",
        t.created_at, t.updated_at
    ) as text), 0)) as digest
from mlops.cover_letter_samples as t
union all
select
    'job_postings',
    pg_catalog.count(*),
    pg_catalog.sum(pg_catalog.hashtextextended(cast(row(
        t.id, t.url, t.source, t.title, t.content, t.company, t.location, t.employment_type,
        t.created_at, t.updated_at
    ) as text), 0))
from mlops.job_postings as t
union all
select
    'job_recommendations',
    pg_catalog.count(*),
    pg_catalog.sum(pg_catalog.hashtextextended(cast(row(
        t.id, t.resume_id, t.job_id, t.score, t.model, t.created_at, t.updated_at
    ) as text), 0))
from mlops.job_recommendations as t
union all
select
    'user_interactions',
    pg_catalog.count(*),
    pg_catalog.sum(pg_catalog.hashtextextended(cast(row(
        t.id, t.user_id, t.resume_id, t.job_id, t.kind, t.occurred_at
    ) as text), 0))
from mlops.user_interactions as t
order by name;
