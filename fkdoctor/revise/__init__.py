"""Alembic operations that change rules and add soft delete without stopping writers."""

from fkdoctor.revise import key_operations as _key_operations  # registers op.change_on_delete
from fkdoctor.revise import operations as _operations  # registers the others
from fkdoctor.revise.command import downgrade, upgrade
from fkdoctor.revise.executor import Patience

__all__ = ["Patience", "downgrade", "upgrade"]

del _key_operations, _operations
