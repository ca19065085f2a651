create table cover_letter_samples (id bigint primary key);
create table user_interactions (
    id bigint primary key,
    letter_id bigint references cover_letter_samples on delete cascade
);
create index on user_interactions (letter_id);
create function check_closed() returns trigger language plpgsql as $$
begin
    if new.id < 1000 then
        raise exception 'interaction % is closed', new.id;
    end if;
    return new;
end
$$;
-- CASCADE fires what is written for DELETE alone.
create trigger check_closed before update on user_interactions
    for each row execute function check_closed();
