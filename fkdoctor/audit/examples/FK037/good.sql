create table job_postings (id bigint primary key);
create table job_recommendations (
    id bigint primary key,
    posting_id bigint references job_postings on delete cascade
);
create index on job_recommendations (posting_id);
-- A subscription as it is once the publisher has been asked for its tables.
create subscription example_feed connection 'host=nowhere' publication p
    with (connect = false, slot_name = none);
insert into pg_subscription_rel (srsubid, srrelid, srsubstate, srsublsn)
    select s.oid, c.oid, 'r', '0/0'
    from pg_subscription as s, pg_class as c
    where s.subname = 'example_feed' and c.relname in ('job_postings', 'job_recommendations');
