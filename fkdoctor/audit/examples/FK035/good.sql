create table cover_letter_samples (id bigint primary key);
create table job_recommendations (
    id bigint primary key,
    resume_id bigint references cover_letter_samples on delete cascade
);
create index on job_recommendations (resume_id);
-- Any role that is no superuser.
alter table cover_letter_samples owner to pg_monitor;
alter table job_recommendations owner to pg_monitor;
