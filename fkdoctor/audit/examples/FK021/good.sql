create table cover_letter_samples (id bigint primary key);
create table job_recommendations (
    id bigint primary key,
    letter_id bigint references cover_letter_samples on delete cascade
);
create index on job_recommendations (letter_id);
create table user_interactions (
    id bigint primary key,
    recommendation_id bigint references job_recommendations on delete cascade,
    letter_id bigint references cover_letter_samples on delete cascade
);
create index on user_interactions (recommendation_id);
create index on user_interactions (letter_id);
