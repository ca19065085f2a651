"""Brings the mlops database to a revision, from Python: what `alembic upgrade` does."""

from __future__ import annotations

from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy import Engine

from fkdoctor.resources import resource_dir


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Upgrade the database to the revision.

    Raises an FkdoctorError; what was done before it stays, and the same call goes on from there.
    """
    command.upgrade(_alembic_config(engine), revision)


def downgrade(engine: Engine, revision: str) -> None:
    """Downgrade the database to the revision, `base` for the state before the first."""
    command.downgrade(_alembic_config(engine), revision)


def _alembic_config(engine: Engine) -> AlembicConfig:
    config = AlembicConfig()
    migrations = str(resource_dir("migrations"))
    config.set_main_option("script_location", migrations.replace("%", "%%"))
    config.attributes["engine"] = engine
    return config
