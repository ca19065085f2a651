-- Finds public.job_recommendations.job_recommendations_resume_id_fkey
create table cover_letter_samples (id bigint primary key);
create table job_recommendations (
    id bigint primary key,
    resume_id bigint references cover_letter_samples on delete cascade
);
create index on job_recommendations (resume_id);
-- What some versions of PostgreSQL do by themselves when a partition is detached.
delete from pg_catalog.pg_depend
where classid = 'pg_catalog.pg_trigger'::regclass
    and objid in (
        select oid
        from pg_catalog.pg_trigger
        where tgrelid = 'cover_letter_samples'::regclass and tgisinternal
    );
delete from pg_catalog.pg_trigger
where tgrelid = 'cover_letter_samples'::regclass and tgisinternal;
