-- Finds public.user_interactions.user_interactions_letter_id_fkey
-- Finds public.user_interactions.user_interactions_posting_id_fkey
create table cover_letter_samples (id bigint primary key);
create table job_postings (id bigint primary key);
create table user_interactions (
    id bigint primary key,
    letter_id bigint references cover_letter_samples on delete set null,
    posting_id bigint references job_postings on delete set null,
    check (num_nonnulls(letter_id, posting_id) = 1)
);
create index on user_interactions (letter_id);
create index on user_interactions (posting_id);
