create table job_postings (id bigint primary key);
create table job_recommendations (
    id bigint primary key,
    posting_id bigint references job_postings on delete restrict
);
create index on job_recommendations (posting_id);
