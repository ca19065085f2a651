create table users (id bigint primary key);
create table resumes (id bigint primary key, user_id bigint references users on delete cascade);
create index on resumes (user_id);
