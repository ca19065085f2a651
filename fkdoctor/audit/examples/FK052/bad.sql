-- Finds public.job_recommendations.job_recommendations_resume_id_fkey
-- Also finds FK047:public.resumes
create table resumes (id bigint primary key, deleted_at timestamptz);
create table job_recommendations (
    id bigint primary key,
    resume_id bigint references resumes on delete cascade
);
create index on job_recommendations (resume_id);
insert into resumes values (1, now());
insert into job_recommendations values (1, 1);
