create table customers (id bigint primary key);
create table orders (
    id bigint primary key,
    customer_id bigint references customers on delete restrict
);
create index on orders (customer_id);
create table invoices (
    id bigint primary key,
    order_id bigint references orders on delete restrict
);
create index on invoices (order_id);
