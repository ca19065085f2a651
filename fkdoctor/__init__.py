"""Delete and merge rows in PostgreSQL without breaking anything that points at them.

The functions here are all that the command line does, for Python, Airflow or Celery:

    engine = fkdoctor.open_engine(fkdoctor.resolve_target(None, fkdoctor.Config()))
    with fkdoctor.connect(engine) as connection:
        schema = fkdoctor.inspect_database(connection)
        findings = fkdoctor.audit_schema(schema)

Each is imported from its own module when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fkdoctor.version import __version__

if TYPE_CHECKING:
    from fkdoctor.audit import audit_schema as audit_schema
    from fkdoctor.config import Config as Config
    from fkdoctor.config import load_config as load_config
    from fkdoctor.database import connect as connect
    from fkdoctor.database import open_engine as open_engine
    from fkdoctor.database import resolve_target as resolve_target
    from fkdoctor.dedupe.apply import apply_dedupe as apply_dedupe
    from fkdoctor.dedupe.planner import Criteria as Criteria
    from fkdoctor.dedupe.planner import plan_dedupe as plan_dedupe
    from fkdoctor.dedupe.policy import read_fields as read_fields
    from fkdoctor.dedupe.policy import read_rules as read_rules
    from fkdoctor.dedupe.redirect import resolve_key as resolve_key
    from fkdoctor.dedupe.undo import undo_dedupe as undo_dedupe
    from fkdoctor.impact.preview import preview_delete as preview_delete
    from fkdoctor.inspect.catalog import inspect_database as inspect_database
    from fkdoctor.ledger.install import install_ledger as install_ledger
    from fkdoctor.softdelete.delete import preview_soft_delete as preview_soft_delete
    from fkdoctor.softdelete.delete import soft_delete as soft_delete
    from fkdoctor.softdelete.purge import preview_purge as preview_purge
    from fkdoctor.softdelete.purge import purge_deleted as purge_deleted
    from fkdoctor.softdelete.restore import preview_restore as preview_restore
    from fkdoctor.softdelete.restore import restore_deletion as restore_deletion
    from fkdoctor.softdelete.selection import Selection as Selection

_HOME = {
    "Config": "fkdoctor.config",
    "Criteria": "fkdoctor.dedupe.planner",
    "Selection": "fkdoctor.softdelete.selection",
    "apply_dedupe": "fkdoctor.dedupe.apply",
    "audit_schema": "fkdoctor.audit",
    "connect": "fkdoctor.database",
    "inspect_database": "fkdoctor.inspect.catalog",
    "install_ledger": "fkdoctor.ledger.install",
    "load_config": "fkdoctor.config",
    "open_engine": "fkdoctor.database",
    "plan_dedupe": "fkdoctor.dedupe.planner",
    "preview_delete": "fkdoctor.impact.preview",
    "preview_purge": "fkdoctor.softdelete.purge",
    "preview_restore": "fkdoctor.softdelete.restore",
    "preview_soft_delete": "fkdoctor.softdelete.delete",
    "purge_deleted": "fkdoctor.softdelete.purge",
    "read_fields": "fkdoctor.dedupe.policy",
    "read_rules": "fkdoctor.dedupe.policy",
    "resolve_key": "fkdoctor.dedupe.redirect",
    "resolve_target": "fkdoctor.database",
    "restore_deletion": "fkdoctor.softdelete.restore",
    "soft_delete": "fkdoctor.softdelete.delete",
    "undo_dedupe": "fkdoctor.dedupe.undo",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
