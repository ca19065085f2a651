-- Finds public.job_recommendations.job_recommendations_posting_id_fkey
-- Also finds FK003:public.job_recommendations.job_recommendations_posting_id_fkey
create table job_postings (id bigint primary key);
create table job_recommendations (id bigint primary key, posting_id bigint);
create index on job_recommendations (posting_id);
insert into job_recommendations values (1, 77);
alter table job_recommendations
    add foreign key (posting_id) references job_postings on delete cascade not valid;
