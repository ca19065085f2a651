-- Which version is the ledger of? It must be there, and readable.
select v.version_num from fkdoctor.ledger_version as v;
