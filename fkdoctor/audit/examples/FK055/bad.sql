-- Finds public.recommendations: resume_id → public.resumes(id)
-- Also finds FK048:public.recommendations.resume_id
create table resumes (id integer primary key);
create table recommendations (id integer primary key, resume_id integer not null);
