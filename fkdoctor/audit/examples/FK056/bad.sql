-- Finds Resume.recommendations (public.recommendations.recommendations_resume_id_fkey)
-- Also finds FK054:public.recommendations.recommendations_resume_id_fkey
create table resumes (id integer primary key);
create table recommendations (
    id integer primary key,
    resume_id integer not null references resumes on delete restrict
);
create index on recommendations (resume_id);
