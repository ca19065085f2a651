-- Finds public.favourites.favourites_letter_id_fkey
create table cover_letter_samples (id bigint primary key);
create table favourites (
    id bigint primary key,
    person text not null,
    letter_id bigint default 0 references cover_letter_samples on delete set default,
    unique (person, letter_id)
);
create index on favourites (letter_id);
