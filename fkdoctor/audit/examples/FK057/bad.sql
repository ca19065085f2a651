-- Finds jobs.Recommendation.resume (public.recommendations.recommendations_resume_id_fkey)
create table resumes (id bigint primary key);
create table recommendations (
    id bigint primary key,
    resume_id bigint references resumes on delete cascade deferrable initially deferred
);
create index on recommendations (resume_id);
