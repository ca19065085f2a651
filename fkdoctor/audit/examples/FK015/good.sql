create table job_postings (url text collate "C" primary key);
create table job_recommendations (
    id bigint primary key,
    url text collate "C" references job_postings on delete cascade
);
create index on job_recommendations (url);
