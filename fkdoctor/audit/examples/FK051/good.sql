create table job_postings (id bigint primary key);
create table job_recommendations (
    id bigint primary key,
    posting_id bigint references job_postings on delete cascade
);
create index on job_recommendations (posting_id);
insert into job_postings values (77);
insert into job_recommendations values (1, 77);
