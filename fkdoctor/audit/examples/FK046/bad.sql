-- Finds public.resumes.resumes_user_id_fkey
create table users (id bigint primary key);
create table resumes (
    id bigint primary key,
    user_id bigint references users on delete cascade,
    deleted_at timestamptz
);
create index on resumes (user_id);
