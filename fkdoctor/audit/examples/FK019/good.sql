create table cover_letter_samples (id bigint primary key);
create table job_recommendations (
    id bigint primary key,
    -- A letter that was recommended is to stay.
    resume_id bigint references cover_letter_samples on delete restrict
);
create index on job_recommendations (resume_id);
