create table users (id bigint primary key, email text, deleted_at timestamptz);
create unique index on users (email) where deleted_at is null;
