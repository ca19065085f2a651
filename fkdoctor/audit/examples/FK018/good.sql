-- The posting says that it is the company's main one.
create table companies (id bigint primary key);
create table job_postings (
    id bigint primary key,
    company_id bigint not null references companies on delete cascade,
    main boolean not null
);
create index on job_postings (company_id);
create unique index on job_postings (company_id) where main;
