create schema billing;
create table users (id bigint primary key);
create table billing.invoices (
    id bigint primary key,
    user_id bigint references users on delete restrict
);
create index on billing.invoices (user_id);
