-- Finds public.resumes.resumes_tenant_id_user_id_fkey
create table tenants (id bigint primary key);
create table users (
    tenant_id bigint references tenants on delete restrict,
    id bigint,
    primary key (tenant_id, id)
);
create table resumes (
    id bigint primary key,
    tenant_id bigint references tenants on delete restrict,
    user_id bigint,
    foreign key (tenant_id, user_id) references users on delete set null,
    check (tenant_id is not null or user_id is null)
);
create index on resumes (tenant_id, user_id);
