create table documents (id bigint primary key) partition by hash (id);
create table documents_0 partition of documents for values with (modulus 2, remainder 0);
create table documents_1 partition of documents for values with (modulus 2, remainder 1);
create table ratings (id bigint primary key, document_id bigint references documents on delete cascade);
create index on ratings (document_id);
