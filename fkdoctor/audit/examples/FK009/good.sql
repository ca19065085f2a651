create table cover_letter_samples (id bigint primary key);
-- Stands for a letter that was deleted.
insert into cover_letter_samples values (0);
create table job_recommendations (
    id bigint primary key,
    resume_id bigint not null default 0 references cover_letter_samples on delete set default
);
create index on job_recommendations (resume_id);
