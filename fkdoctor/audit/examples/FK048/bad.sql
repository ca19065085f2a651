-- Finds public.resumes.user_id
create table users (id bigint primary key);
create table resumes (id bigint primary key, user_id bigint);
