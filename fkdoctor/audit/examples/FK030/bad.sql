-- Finds public.login_log.login_log_user_id_fkey
create table users (id bigint primary key);
create table login_log (
    id bigint primary key,
    user_id bigint references users on delete cascade,
    logged_in_at timestamptz not null
);
create index on login_log (user_id);
