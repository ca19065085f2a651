-- Finds public.resumes.resumes_author_id_fkey
create table users (id bigint primary key);
create table resumes (id bigint primary key, author_id bigint references users on delete cascade);
create index on resumes (author_id);
-- The column gets another meaning, and a new one the old name.
alter table resumes rename column author_id to owner_id;
alter table resumes add column author_id text;
