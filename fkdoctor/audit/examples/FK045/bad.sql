-- Finds public.users_email_key
create table users (id bigint primary key, email text unique, deleted_at timestamptz);
