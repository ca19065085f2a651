-- Wait until nobody else creates or upgrades the ledger; held until the transaction ends.
-- One row, one empty column. The number is the text 'fkdoctor' as bytes.
select pg_catalog.pg_advisory_xact_lock(7380102843949412210) as locked;
