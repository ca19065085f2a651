-- Finds public.invoices.invoices_order_id_fkey
create table customers (id bigint primary key);
create table orders (
    id bigint primary key,
    customer_id bigint references customers on delete cascade
);
create index on orders (customer_id);
create table invoices (
    id bigint primary key,
    -- A customer can be deleted with all orders, until one of them has an invoice.
    order_id bigint references orders on delete restrict
);
create index on invoices (order_id);
