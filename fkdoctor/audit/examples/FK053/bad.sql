-- Finds public.resumes.resumes_template_id_fkey
create table templates (id bigint primary key);
create table resumes (
    id bigint primary key,
    template_id bigint default 1 references templates on delete set default
);
create index on resumes (template_id);
