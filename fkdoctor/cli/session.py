"""What every command shares: the options that name the database, and the connection itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from sqlalchemy import Connection, Engine

from fkdoctor.config import Config, find_config, load_config
from fkdoctor.database import Target, connect, open_engine, resolve_target

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Session:
    """An open connection, the configuration, and where they came from."""

    engine: Engine
    connection: Connection
    config: Config
    target: Target


def database_options(command: Command) -> Command:
    """The command with --url and --config, handed on as `url` and `config_path`."""
    url = click.option(
        "--url",
        metavar="ADDRESS",
        help="postgresql://… or a libpq keyword string; before FKDOCTOR_URL and DATABASE_URL.",
    )
    config = click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The fkdoctor.toml to use; else the nearest one in this directory or above.",
    )
    return url(config(command))


def read_config(config_path: Path | None) -> Config:
    """The configuration from --config, or from the nearest fkdoctor.toml, or the defaults."""
    return load_config(config_path or find_config(Path.cwd()))


@contextmanager
def open_session(url: str | None, config_path: Path | None) -> Iterator[Session]:
    """A session on the chosen database; says on stderr which one was chosen, and by what."""
    config = read_config(config_path)
    target = resolve_target(url, config)
    engine = open_engine(target)
    with connect(engine) as connection:
        click.echo(f"Using {target}.", err=True)
        yield Session(engine=engine, connection=connection, config=config, target=target)
