-- Which cover letter was crawled twice and is recommended for a job?
-- One row: its id and address, and those of another letter whose address differs only in its query.
select
    min_id.id,
    min_id.url,
    other.id as other,
    other.url as other_url
from mlops.cover_letter_samples as min_id
join mlops.cover_letter_samples as other
    on pg_catalog.split_part(other.url, '?', 1) = min_id.url
    and other.id <> min_id.id
    and pg_catalog.strpos(other.url, '?utm_') > 0
where exists (
    select 1 from mlops.job_recommendations as r where r.resume_id = min_id.id
)
order by min_id.id
limit 1;
