create table cover_letter_samples (id bigint primary key);
create table user_interactions (
    id bigint primary key,
    letter_id bigint references cover_letter_samples on delete cascade,
    hidden_at timestamptz
);
create index on user_interactions (letter_id);
-- A view in front of the table keeps the rule away from what the key does.
create view current_interactions as
    select id, letter_id from user_interactions where hidden_at is null;
create rule hide as on delete to current_interactions
    do instead update user_interactions set hidden_at = now() where id = old.id;
