create table users (id bigint primary key);
create table documents (user_id bigint references users on delete cascade);
create index on documents (user_id);
create table resumes (
    skills text,
    foreign key (user_id) references users on delete cascade
) inherits (documents);
create index on resumes (user_id);
