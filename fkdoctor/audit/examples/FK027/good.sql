create table users (id bigint primary key);
create table resumes (id bigint primary key, user_id bigint references users on delete cascade);
create index on resumes (user_id);
create table cover_letter_samples (
    id bigint primary key,
    resume_id bigint references resumes on delete cascade
);
create index on cover_letter_samples (resume_id);
create table job_recommendations (
    id bigint primary key,
    -- Kept, without the letter.
    letter_id bigint references cover_letter_samples on delete set null
);
create index on job_recommendations (letter_id);
