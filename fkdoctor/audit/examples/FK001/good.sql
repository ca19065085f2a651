create table cover_letter_samples (id bigint primary key);
create table job_recommendations (
    id bigint primary key,
    resume_id bigint references cover_letter_samples on delete cascade,
    dismissed boolean not null
);
-- Rows without a reference need not be in it.
create index on job_recommendations (resume_id) where resume_id is not null;
