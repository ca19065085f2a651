-- Finds public.job_postings.job_postings_company_fkey
create collation any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
create table companies (name text collate any_case primary key);
create table job_postings (
    id bigint primary key,
    company text references companies on delete cascade
);
create index on job_postings (company collate any_case);
