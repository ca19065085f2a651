-- Also finds FK018:public.companies
create table companies (id bigint primary key, main_posting_id bigint);
create table job_postings (
    id bigint primary key,
    company_id bigint not null references companies on delete cascade
);
alter table companies
    add foreign key (main_posting_id) references job_postings on delete set null;
create index on companies (main_posting_id);
create index on job_postings (company_id);
