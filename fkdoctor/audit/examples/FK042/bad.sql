-- Finds public.resumes.resumes_user_id_fkey
create table users (id bigint primary key, tenant_id bigint not null, unique (tenant_id, id));
create table resumes (
    id bigint primary key,
    tenant_id bigint not null,
    user_id bigint references users on delete cascade,
    foreign key (tenant_id, user_id) references users (tenant_id, id) on delete cascade
);
create index on resumes (user_id, tenant_id);
