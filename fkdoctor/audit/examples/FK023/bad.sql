-- Finds public.user_interactions.user_interactions_letter_id_fkey
create table cover_letter_samples (id bigint primary key);
create table user_interactions (
    id bigint primary key,
    letter_id bigint references cover_letter_samples on delete cascade,
    hidden_at timestamptz
);
create index on user_interactions (letter_id);
-- Meant to hide rows in place of deleting them.
create function hide() returns trigger language plpgsql as $$
begin
    update user_interactions set hidden_at = now() where id = old.id;
    return null;
end
$$;
create trigger hide before delete on user_interactions for each row execute function hide();
