-- Finds public.resumes
create table resumes (id bigint primary key, deleted_at timestamptz);
create table job_recommendations (
    id bigint primary key,
    resume_id bigint references resumes on delete cascade
);
create index on job_recommendations (resume_id);
