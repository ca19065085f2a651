create table campaigns (id bigint primary key);
create table clicks (
    id bigint primary key,
    campaign_id bigint references campaigns on delete restrict
);
create index on clicks (campaign_id);
insert into campaigns values (1), (2);
insert into clicks select n, 1 + n % 2 from generate_series(1, 20000) as n;
analyze campaigns, clicks;
