create table resumes (id bigint primary key);
create table job_postings (id bigint primary key);
create table ratings (
    id bigint primary key,
    resume_id bigint references resumes on delete cascade,
    posting_id bigint references job_postings on delete cascade,
    check (num_nonnulls(resume_id, posting_id) = 1)
);
create index on ratings (resume_id);
create index on ratings (posting_id);
