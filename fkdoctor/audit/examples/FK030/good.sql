create table users (id bigint primary key, name text not null);
create table login_log (
    id bigint primary key,
    user_id bigint references users on delete set null,
    user_name text not null,
    logged_in_at timestamptz not null
);
create index on login_log (user_id);
