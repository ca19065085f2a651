-- Make the schema that fkdoctor keeps its ledger in. No rows.
create schema if not exists fkdoctor;
