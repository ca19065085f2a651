"""Alembic operations that change rules and add soft delete without stopping writers."""

from fkdoctor.revise import operations as _operations  # registers its own; those of keys: below
from fkdoctor.revise import rendering as _rendering  # registers the texts of all of them
from fkdoctor.revise.autogenerate import rewrite_directives
from fkdoctor.revise.command import downgrade, upgrade
from fkdoctor.revise.executor import Patience

__all__ = ["Patience", "downgrade", "rewrite_directives", "upgrade"]

del _operations, _rendering
