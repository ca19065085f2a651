create table cover_letter_samples (id bigint primary key);
create table user_interactions (
    id bigint primary key,
    -- The letter can't go before the rows that are only hidden.
    letter_id bigint references cover_letter_samples on delete restrict,
    hidden_at timestamptz
);
create index on user_interactions (letter_id);
create function hide() returns trigger language plpgsql as $$
begin
    update user_interactions set hidden_at = now() where id = old.id;
    return null;
end
$$;
create trigger hide before delete on user_interactions for each row execute function hide();
