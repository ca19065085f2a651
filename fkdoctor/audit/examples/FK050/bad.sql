-- Finds public.batches.job_ids
create table jobs (id bigint primary key);
create table batches (id bigint primary key, job_ids bigint[]);
