create table jobs (id bigint primary key);
create table batches (id bigint primary key);
create table batch_jobs (
    batch_id bigint references batches on delete cascade,
    job_id bigint references jobs on delete cascade,
    primary key (batch_id, job_id)
);
create index on batch_jobs (job_id);
