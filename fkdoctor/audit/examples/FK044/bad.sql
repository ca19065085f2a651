-- Finds public.job_recommendations_posting_id_idx1
create table job_postings (id bigint primary key);
create table job_recommendations (
    id bigint primary key,
    posting_id bigint references job_postings on delete cascade
);
create index on job_recommendations (posting_id);
create index on job_recommendations (posting_id);
-- As a CREATE INDEX CONCURRENTLY leaves it that fails.
update pg_index set indisvalid = false
    where indexrelid = 'job_recommendations_posting_id_idx1'::regclass;
