"""The `fkdoctor` schema in the user's database: what was done, so that it can be undone."""
