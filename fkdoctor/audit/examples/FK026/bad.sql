-- Finds public.user_interactions.user_interactions_letter_id_fkey
create table cover_letter_samples (id bigint primary key);
create table user_interactions (
    id bigint primary key,
    letter_id bigint references cover_letter_samples on delete cascade
);
create index on user_interactions (letter_id);
create function only_append() returns trigger language plpgsql as $$
begin
    raise exception '% only grows', tg_table_name;
end
$$;
create trigger only_append before update or delete on user_interactions
    for each row execute function only_append();
