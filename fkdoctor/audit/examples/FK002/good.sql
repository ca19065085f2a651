create table cover_letter_samples (tenant_id int, id bigint, primary key (tenant_id, id));
create table job_recommendations (
    id bigint primary key,
    tenant_id int not null,
    resume_id bigint not null,
    foreign key (tenant_id, resume_id) references cover_letter_samples on delete cascade
);
-- Leads to the rows themselves; the order of the two does not matter.
create index on job_recommendations (resume_id, tenant_id);
