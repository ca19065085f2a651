-- Does any reference of the mlops tables point at nothing?
-- A row per foreign key: name, how many references it has, how many of them dangle.
select
    'job_recommendations_resume_id_fkey' as constraint_name,
    pg_catalog.count(r.resume_id) as references_checked,
    pg_catalog.count(r.resume_id) filter (where c.id is null) as dangling
from mlops.job_recommendations as r
left join mlops.cover_letter_samples as c on c.id = r.resume_id
union all
select
    'job_recommendations_job_id_fkey',
    pg_catalog.count(r.job_id),
    pg_catalog.count(r.job_id) filter (where p.id is null)
from mlops.job_recommendations as r
left join mlops.job_postings as p on p.id = r.job_id
union all
select
    'user_interactions_resume_id_fkey',
    pg_catalog.count(i.resume_id),
    pg_catalog.count(i.resume_id) filter (where c.id is null)
from mlops.user_interactions as i
left join mlops.cover_letter_samples as c on c.id = i.resume_id
union all
select
    'user_interactions_job_id_fkey',
    pg_catalog.count(i.job_id),
    pg_catalog.count(i.job_id) filter (where p.id is null)
from mlops.user_interactions as i
left join mlops.job_postings as p on p.id = i.job_id
order by constraint_name;
