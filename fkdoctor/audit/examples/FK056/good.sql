create table resumes (id integer primary key);
create table recommendations (
    id integer primary key,
    resume_id integer not null references resumes on delete cascade
);
create index on recommendations (resume_id);
