-- Finds public.job_recommendations.job_recommendations_tenant_id_resume_id_fkey
create table cover_letter_samples (tenant_id int, id bigint, primary key (tenant_id, id));
create table job_recommendations (
    id bigint primary key,
    tenant_id int not null,
    resume_id bigint not null,
    foreign key (tenant_id, resume_id) references cover_letter_samples on delete cascade
);
-- Leads to all rows of a tenant.
create index on job_recommendations (tenant_id);
