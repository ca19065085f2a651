-- Finds public.user_interactions.user_interactions_letter_id_fkey
create table cover_letter_samples (id bigint primary key);
create table user_interactions (
    id bigint primary key,
    letter_id bigint references cover_letter_samples on delete cascade,
    hidden_at timestamptz
);
create index on user_interactions (letter_id);
create rule hide as on delete to user_interactions
    do instead update user_interactions set hidden_at = now() where id = old.id;
