-- Finds public.documents.documents_user_id_fkey
create table users (id bigint primary key);
create table documents (user_id bigint references users on delete cascade);
create index on documents (user_id);
create table resumes (skills text) inherits (documents);
