create table users (id bigint primary key);
create table job_recommendations (
    id bigint primary key,
    user_id bigint references users on delete cascade,
    reviewer_id bigint references users on delete set null
);
create index on job_recommendations (user_id);
create index on job_recommendations (reviewer_id);
