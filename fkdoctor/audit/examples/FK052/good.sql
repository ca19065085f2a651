create table resumes (id bigint primary key, deleted_at timestamptz);
create table job_recommendations (
    id bigint primary key,
    resume_id bigint references resumes on delete cascade,
    deleted_at timestamptz
);
create index on job_recommendations (resume_id);
insert into resumes values (1, now());
insert into job_recommendations values (1, 1, now());
