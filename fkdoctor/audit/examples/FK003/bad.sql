-- Finds public.job_recommendations.resume
create table cover_letter_samples (id bigint primary key);
create table job_recommendations (id bigint primary key, resume_id bigint);
create index on job_recommendations (resume_id);
alter table job_recommendations add constraint resume
    foreign key (resume_id) references cover_letter_samples on delete cascade not valid;
