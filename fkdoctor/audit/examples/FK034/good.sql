create table cover_letter_samples (id bigint primary key);
create table favourites (
    id bigint primary key,
    person text not null,
    letter_id bigint references cover_letter_samples on delete cascade,
    unique (person, letter_id)
);
create index on favourites (letter_id);
