create table resumes (id bigint primary key);
create table recommendations (
    id bigint primary key,
    resume_id bigint references resumes on delete set null deferrable initially deferred
);
create index on recommendations (resume_id);
