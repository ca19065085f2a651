-- Finds public.ratings.ratings_document_id_fkey
create table documents (id bigint primary key);
create table resumes (skills text, primary key (id)) inherits (documents);
create table ratings (id bigint primary key, document_id bigint references documents on delete cascade);
create index on ratings (document_id);
