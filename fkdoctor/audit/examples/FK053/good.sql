create table templates (id bigint primary key);
insert into templates values (1);
create table resumes (
    id bigint primary key,
    template_id bigint default 1 references templates on delete set default
);
create index on resumes (template_id);
