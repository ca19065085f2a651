create table users (id bigint primary key);
create table resumes (id bigint primary key, author_id bigint references users on delete cascade);
create index on resumes (author_id);
alter table resumes rename column author_id to owner_id;
alter table resumes rename constraint resumes_author_id_fkey to resumes_owner_id_fkey;
alter table resumes add column author_id text;
