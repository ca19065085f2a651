"""Alembic's entry to the ledger's revisions; `install_ledger` hands the connection over."""

from alembic import context

from fkdoctor.ledger.install import SCHEMA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    version_table_schema=SCHEMA,
)
with context.begin_transaction():
    context.run_migrations()
