-- Finds public.job_recommendations.job_recommendations_reviewer_id_fkey
create table users (id bigint primary key);
create table job_recommendations (
    id bigint primary key,
    user_id bigint references users on delete cascade,
    -- Whoever reviewed a recommendation of their own: which of the two keys looks first?
    reviewer_id bigint references users on delete restrict
);
create index on job_recommendations (user_id);
create index on job_recommendations (reviewer_id);
