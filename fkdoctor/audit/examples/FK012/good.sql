create table cover_letter_samples (id bigint primary key);
create table job_recommendations (
    id bigint primary key,
    resume_id bigint references cover_letter_samples on delete cascade
);
create index on job_recommendations (resume_id);
alter table job_recommendations
    drop constraint job_recommendations_resume_id_fkey,
    add constraint job_recommendations_resume_id_fkey
        foreign key (resume_id) references cover_letter_samples on delete restrict;
