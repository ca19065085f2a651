-- Finds public.job_recommendations.job_recommendations_resume_id_fkey
create table cover_letter_samples (id bigint primary key);
create table job_recommendations (
    id bigint primary key,
    resume_id bigint references cover_letter_samples on delete set default
);
create index on job_recommendations (resume_id);
