create table users (id bigint primary key);
create table resumes (id bigint primary key, user_id bigint references users on delete cascade);
create index on resumes (user_id);
alter table resumes enable row level security;
alter table users enable row level security;
