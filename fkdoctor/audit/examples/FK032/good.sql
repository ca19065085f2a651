create table tenants (id bigint primary key);
create table users (
    tenant_id bigint references tenants on delete restrict,
    id bigint,
    primary key (tenant_id, id)
);
create table resumes (
    id bigint primary key,
    tenant_id bigint not null references tenants on delete restrict,
    user_id bigint,
    -- From PostgreSQL 15 on also: on delete set null (user_id)
    foreign key (tenant_id, user_id) references users on delete cascade
);
create index on resumes (tenant_id, user_id);
