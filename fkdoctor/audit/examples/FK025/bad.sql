-- Finds public.user_interactions.user_interactions_letter_id_fkey
create table cover_letter_samples (id bigint primary key);
create table user_interactions (
    id bigint primary key,
    letter_id bigint references cover_letter_samples on delete cascade
);
create index on user_interactions (letter_id);
create function check_closed() returns trigger language plpgsql as $$
begin
    if old.id < 1000 then
        raise exception 'interaction % is closed', old.id;
    end if;
    return old;
end
$$;
create trigger check_closed before delete on user_interactions
    for each row execute function check_closed();
