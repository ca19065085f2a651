-- Finds public.resumes.resumes_email_fkey
create table users (id bigint primary key, email text not null unique);
create table resumes (
    id bigint primary key,
    email text references users (email) on update cascade on delete cascade
);
create index on resumes (email);
