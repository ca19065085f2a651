create table cover_letter_samples (id bigint primary key);
create table job_recommendations (
    id bigint primary key,
    resume_id bigint references cover_letter_samples on delete cascade
);
create index on job_recommendations (resume_id);
begin;
-- To load faster, and for this transaction only.
set local session_replication_role = replica;
commit;
