-- Finds public.ratings.subject_id
create table ratings (id bigint primary key, subject_type text, subject_id bigint);
