create table subscribers (id bigint primary key, email text not null, deleted_at timestamptz);
create unique index subscribers_email on subscribers (email) where deleted_at is null;
create function subscribe(wanted text) returns void language sql set search_path = public as $$
    insert into subscribers (id, email) values (1, wanted)
    on conflict (email) where deleted_at is null do nothing;
$$;
