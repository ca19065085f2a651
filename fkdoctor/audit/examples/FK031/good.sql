create table cover_letter_samples (id bigint primary key);
create table job_postings (id bigint primary key);
create table user_interactions (
    id bigint primary key,
    letter_id bigint references cover_letter_samples on delete cascade,
    posting_id bigint references job_postings on delete cascade,
    check (num_nonnulls(letter_id, posting_id) = 1)
);
create index on user_interactions (letter_id);
create index on user_interactions (posting_id);
